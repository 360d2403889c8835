// The console: three questions in this order. Are users hurt, can we bear the next loss, what moves.
import { Component, render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Foot, Nav, Notices, Verdict, verdictOf } from "./parts/head.jsx";
import { Now } from "./pages/now.jsx";
import { Timeline } from "./pages/timeline.jsx";
import { Shards } from "./pages/shards.jsx";
import { Places } from "./pages/places.jsx";
import { WhatIf } from "./pages/whatif.jsx";
import { Jobs } from "./pages/jobs.jsx";
import { Drills } from "./pages/drills.jsx";
import { Promises } from "./pages/promises.jsx";
import { Settings } from "./pages/settings.jsx";
import { Empty, Section } from "./parts/bits.jsx";
import { Banner } from "./parts/drill.jsx";
import { Patterns } from "./parts/strip.jsx";
import { now, run, silence } from "./lib/net.js";
import { route } from "./lib/route.js";

/** In the order of the navigation. Another page is another line. */
const PAGES = [
  { key: "now", name: "Now", page: Now },
  { key: "timeline", name: "Timeline", page: Timeline },
  { key: "shards", name: "Shards", page: Shards },
  { key: "places", name: "Places", page: Places },
  { key: "whatif", name: "What if", page: WhatIf },
  { key: "jobs", name: "Jobs", page: Jobs },
  { key: "drills", name: "Drills", page: Drills },
  { key: "promises", name: "Promises", page: Promises },
  { key: "settings", name: "Settings", page: Settings },
];

function Unknown() {
  return (
    <Section title="No such page">
      <Empty>
        There is no page “{route.value.page}”. <a href="#/now">Now</a> says how things are.
      </Empty>
    </Section>
  );
}

/** The tab says how things are too, for those who look at another one. */
function useTitle(name) {
  const { sign, word } = verdictOf(now.value, silence.value);
  useEffect(() => {
    document.title = `${sign} ${word} · ${name} · Firebreak`;
  }, [sign, word, name]);
}

function App() {
  const { page } = route.value;
  const found = PAGES.find(({ key }) => key === page);
  const Page = found?.page ?? Unknown;
  const main = useRef(null);
  const first = useRef(true);
  useTitle(found?.name ?? "No such page");
  useEffect(() => {
    if (!first.current) {
      scrollTo(0, 0);
      main.current.focus({ preventScroll: true });
    }
    first.current = false;
  }, [page]);
  return (
    <>
      <Verdict />
      <Banner />
      <Nav pages={PAGES} current={page} />
      <main ref={main} tabIndex={-1} class={silence.value ? "past" : ""}>
        <Notices />
        <h1 class="hidden">{found?.name ?? "No such page"}</h1>
        {now.value || !found || page === "settings" ? (
          <Shown key={page} body={now.value}>
            <Page />
          </Shown>
        ) : (
          <Waiting />
        )}
      </main>
      <Foot />
      <Patterns />
    </>
  );
}

/** A page that cannot show what a node told leaves the sentence, the other pages and the next answer alone. */
class Shown extends Component {
  state = { wrong: null };

  componentDidCatch(error) {
    this.setState({ wrong: error, body: this.props.body });
  }

  componentDidUpdate() {
    if (this.state.wrong && this.state.body !== this.props.body) this.setState({ wrong: null });
  }

  render() {
    const { wrong } = this.state;
    if (!wrong) return this.props.children;
    return (
      <Section title="This page cannot be shown">
        <Empty>
          What the node told is not understood here: {String(wrong.message)}. The page tries again with the next answer; the others
          work, and so does <code>firebreak status</code>.
        </Empty>
      </Section>
    );
  }
}

function Waiting() {
  return <p class="empty waiting">{silence.value ? "Nothing was told yet." : "Asking this node…"}</p>;
}

render(<App />, document.getElementById("app"));
run();

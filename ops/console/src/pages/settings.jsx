// Settings: what the node that tells runs with, and whence.
import { useState } from "preact/hooks";
import { useAnswer } from "../lib/hooks.js";
import { list, text } from "../lib/fmt.js";
import { Empty, Mark, Section, Told } from "../parts/bits.jsx";

export function Settings() {
  const answer = useAnswer("/api/settings", 10_000);
  const [words, setWords] = useState("");
  const [onlySet, setOnlySet] = useState(false);
  const { body } = answer;
  const values = list(body?.values).filter((value) => text(value?.key));
  const wanted = words.trim().toLowerCase();
  const found = values
    .filter((value) => !onlySet || value.set)
    .filter((value) => !wanted || `${value.key} ${value.value} ${value.about}`.toLowerCase().includes(wanted));
  return (
    <>
      <Told answer={answer} />
      {body && (
        <Section title={`Settings of ${text(body.node, "this node")}`}>
          <p class="facts">
            <span>version <b>{text(body.version, "–")}</b></span>
            <span>from <code>{text(body.file, "no file")}</code></span>
            <span><b>{values.filter((value) => value.set).length}</b> of {values.length} set there</span>
          </p>
          <div class="filters">
            <label>
              search <input type="search" value={words} onInput={(event) => setWords(event.currentTarget.value)} placeholder="heartbeat" />
            </label>
            <label>
              <input type="checkbox" checked={onlySet} onChange={() => setOnlySet(!onlySet)} /> only what is set
            </label>
          </div>
          {found.length === 0 ? <Empty>No setting is like that.</Empty> : <Table values={found} />}
          <p class="told">“Look from” below shows those of another node.</p>
        </Section>
      )}
    </>
  );
}

function Table({ values }) {
  return (
    <table class="stack settings">
      <thead>
        <tr>
          <th scope="col">key</th>
          <th scope="col">value</th>
          <th scope="col">default</th>
          <th scope="col">meaning</th>
        </tr>
      </thead>
      <tbody>
        {values.map((value) => (
          <tr key={value.key}>
            <th scope="row">
              <code>{value.key}</code>
            </th>
            <td>
              <Value value={value} /> {value.set && <Mark cls="net" sign="◆">set</Mark>}
            </td>
            <td data-label="default">{shown(value.default).replaceAll("`", "")}</td>
            <td class="why">{text(value.about).replaceAll("`", "")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Value({ value }) {
  if (value.set) return <b>{shown(value.value)}</b>;
  const same = value.value === null || value.value === undefined || value.value === "" || value.value === value.default;
  return same ? <span class="told">as by default</span> : shown(value.value);
}

/** A value as it is, also where it came as a number or as a list. */
function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

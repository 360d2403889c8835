// Load and p99 below the lanes, on their axis.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { count, list, num, span } from "../lib/fmt.js";
import { useDark } from "../lib/hooks.js";

const HEIGHT_PX = 112;
const stepped = uPlot.paths.stepped({ align: 1 });

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Of a latency: powers of ten around what there is, as on the simulator's pages. */
function powers(_, least, most) {
  if (!(most > 0)) return [1, 10];
  return [10 ** Math.floor(Math.log10(least)), 10 ** Math.max(Math.ceil(Math.log10(most)), Math.floor(Math.log10(least)) + 1)];
}

/** Ticks at powers of ten alone: nine lines between them say nothing. */
function decades(_, __, least, most) {
  const ticks = [];
  for (let tick = least; tick <= most * 1.01; tick *= 10) ticks.push(tick);
  return ticks;
}

function options({ axis, gut, plot, ticks, series, words, log }) {
  const font = "11.5px system-ui, sans-serif";
  const grid = { stroke: token("--grid"), width: 1 };
  return {
    width: gut + plot,
    height: HEIGHT_PX,
    padding: [8, 0, 4, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [axis.from, axis.to] }, y: log ? { distr: 3, range: powers } : { range: (_, __, most) => [0, Math.max(most * 1.08, 1)] } },
    axes: [
      { show: false, splits: () => ticks },
      { size: gut, gap: 8, space: 32, font, stroke: token("--mute"), grid, ticks: { show: false }, values: (_, at) => at.map((value) => (value === null ? "" : words(value))), ...(log && { splits: decades, filter: (_, at) => at }) },
    ],
    series: [{}, ...series.map((one) => ({ width: 1.5, points: { show: false }, paths: stepped, ...one }))],
  };
}

function Plot({ title, keys, values, series, words, where, label, log = false }) {
  const box = useRef(null);
  const dark = useDark();
  const { axis, gut, plot, ticks } = where;
  useEffect(() => {
    const colours = series.map(({ colour, fill, ...one }) => ({ ...one, stroke: token(colour), fill: fill && `${token(colour)}${fill}` }));
    const chart = new uPlot(options({ axis, gut, plot, ticks, series: colours, words, log }), values, box.current);
    return () => chart.destroy();
  }, [values, plot, gut, axis.from, axis.to, dark, ticks.join()]);
  return (
    <>
      <div class="head">
        <h3>{title}</h3>
        {keys}
      </div>
      <div class="uplots" ref={box} role="img" aria-label={label} />
    </>
  );
}

const Key = ({ cls, children }) => (
  <span class="key">
    <i class={`line ${cls}`} aria-hidden="true" />
    {children}
  </span>
);

function numbers(values, length) {
  return Array.from({ length }, (_, at) => num(list(values)[at]));
}

const most = (values) => Math.max(...values.filter((value) => value !== null), 0);

export function Load({ load, where }) {
  const times = list(load?.at_ms);
  if (times.length < 2) return <p class="empty">No load was recorded in this time.</p>;
  const acks = numbers(load.acks_per_s, times.length);
  // Where none failed there is no line: one at the bottom would look like a finding.
  const failed = numbers(load.failed_per_s, times.length).map((value) => value || null);
  const p99 = numbers(load.p99_ms, times.length).map((value) => (value > 0 ? value : null));
  return (
    <>
      <Plot
        title="Appends per second"
        keys={
          <>
            <Key cls="acks">acknowledged</Key>
            <Key cls="failed">failed</Key>
          </>
        }
        label={`Acknowledged appends a second: at most ${count(Math.round(most(acks)))}; failed: at most ${count(most(failed))}`}
        values={[times, acks, failed]}
        series={[
          { colour: "--c0", fill: "38" },
          { colour: "--failed", fill: "70", width: 2 },
        ]}
        words={(n) => count(n)}
        where={where}
      />
      <Plot
        title="Append latency"
        keys={<Key cls="p99">p99</Key>}
        label={`p99 of appends: at most ${span(most(p99))}`}
        values={[times, p99]}
        series={[{ colour: "--p99", fill: "24" }]}
        words={(n) => span(n)}
        log
        where={where}
      />
    </>
  );
}

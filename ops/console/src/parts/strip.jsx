// The 65,536 slots, coloured by who leads them; letters and patterns say the same without colour.
import { useWidth } from "../lib/hooks.js";
import { list, num, text } from "../lib/fmt.js";
import { colour, dcNames, letter, pattern } from "../lib/places.js";
import { go, href } from "../lib/route.js";
import { Letter } from "./bits.jsx";

const SLOTS = 65_536;
/** Of a row when it is the only one, and else. */
const ROW_PX = [40, 24];
const ROWS_MAX = 64;
/** A shard should have that much room in a row. */
const SHARD_PX = 17;

/** Rows of equal length that give each shard room. */
export function rowsFor(shards, width) {
  let rows = 1;
  while (rows < ROWS_MAX && (width * rows) / Math.max(1, shards) < SHARD_PX) rows *= 2;
  return rows;
}

const notLed = (shard) => !text(shard.leader) && !shard.asleep;

export function Strip({ shards, open }) {
  const [ref, width] = useWidth();
  const owning = shards.filter((shard) => num(shard.slot_last) !== null && shard.slot_last > shard.slot_first);
  const rows = rowsFor(owning.length, width || 300);
  const each = SLOTS / rows;
  const height = ROW_PX[rows > 1 ? 1 : 0];
  const counts = new Map();
  for (const shard of shards) {
    const dc = notLed(shard) ? null : text(shard.leader_dc);
    counts.set(dc, (counts.get(dc) ?? 0) + 1);
  }
  return (
    <div class="strip" ref={ref}>
      <p class="keys">
        {dcNames.value.map((dc) => (
          <span class="key" key={dc}>
            <Letter dc={dc} /> {dc} leads <b>{counts.get(dc) ?? 0}</b>
          </span>
        ))}
        <span class="key">
          <i class="swatch nobody" aria-hidden="true" /> nobody leads <b>{counts.get(null) ?? 0}</b>
        </span>
      </p>
      <svg width="100%" height={rows * height + 2} role="img" aria-label={`Slots by leading data center: ${spoken(counts)}`}>
        {Array.from({ length: rows }, (_, row) => (
          <Row key={row} row={row} height={height} each={each} width={width} shards={owning} open={open} />
        ))}
      </svg>
      <p class="told ends">
        {rows === 1 ? "slot 0 to 65,535" : `slots 0 to 65,535, ${each.toLocaleString("en-US")} a row`}
      </p>
    </div>
  );
}

function spoken(counts) {
  return [...counts].map(([dc, shards]) => `${dc ?? "nobody"} ${shards}`).join(", ");
}

function Row({ row, height, each, width, shards, open }) {
  const first = row * each;
  const here = shards.filter((shard) => shard.slot_last >= first && shard.slot_first < first + each);
  return list(here).map((shard) => {
    const from = Math.max(shard.slot_first, first) - first;
    const to = Math.min(shard.slot_last + 1, first + each) - first;
    return <Slots key={shard.shard} shard={shard} left={from / each} part={(to - from) / each} top={row * height} height={height} width={width} open={open} />;
  });
}

function Slots({ shard, left, part, top, height, width, open }) {
  const dc = text(shard.leader_dc);
  const dark = notLed(shard);
  const cls = dark ? "nobody" : colour(dc);
  const at = { x: `${(left * 100).toFixed(3)}%`, width: `${(part * 100).toFixed(3)}%`, y: top + 2, height: height - 4 };
  const px = part * width;
  const words = dark ? "✗" : px > 70 ? `${letter(dc)} ${shard.shard}` : letter(dc);
  return (
    <g class={`slots ${open === shard.shard ? "open" : ""}`} onClick={() => go(href("shards", [String(shard.shard)]))}>
      <title>{`shard ${shard.shard}: ${dark ? "nobody leads it" : `led by ${text(shard.leader, "nobody, it sleeps")}`}, slots ${shard.slot_first} to ${shard.slot_last}`}</title>
      <rect class={`area ${cls} ${shard.asleep ? "asleep" : ""}`} {...at} />
      {!dark && pattern(dc) > 0 && <rect class="over" fill={`url(#pat${pattern(dc)})`} {...at} />}
      {px > 9 && (
        <text class={`host on-${cls}`} x={`${((left + part / 2) * 100).toFixed(3)}%`} y={top + height / 2 + 4} text-anchor="middle">
          {words}
        </text>
      )}
    </g>
  );
}

/** Patterns that charts refer to; once on a page. */
export function Patterns() {
  return (
    <svg class="defs" aria-hidden="true" focusable="false">
      <defs>
        <pattern id="pat1" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect class="pen" width="1.2" height="6" />
        </pattern>
        <pattern id="pat2" width="6" height="6" patternUnits="userSpaceOnUse">
          <circle class="pen" cx="3" cy="3" r="1" />
        </pattern>
        <pattern id="pat3" width="6" height="5" patternUnits="userSpaceOnUse">
          <rect class="pen" width="6" height="1.2" />
        </pattern>
        <pattern id="pat4" width="5" height="5" patternUnits="userSpaceOnUse">
          <rect class="pen" width="1.2" height="5" />
        </pattern>
        <pattern id="pat5" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">
          <rect class="pen" width="1.2" height="6" />
        </pattern>
        <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect class="h0" width="6" height="6" />
          <rect class="h1" width="2" height="6" />
        </pattern>
        <pattern id="fine" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect class="h2" width="1" height="5" />
        </pattern>
      </defs>
    </svg>
  );
}

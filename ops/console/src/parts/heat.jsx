// Appends by shard and time: which shard is hot, and since when.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { clock, count, list, num } from "../lib/fmt.js";
import { useDark, useWidth } from "../lib/hooks.js";
import { go, href } from "../lib/route.js";

const HEIGHT_PX = 300;
const ROW_PX_MAX = 18;
const SHADES = 255;

function channels(name) {
  const paint = document.createElement("canvas").getContext("2d");
  paint.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  paint.fillRect(0, 0, 1, 1);
  return paint.getImageData(0, 0, 1, 1).data;
}

/** One pixel a value; the browser stretches it. Unknown is clear, so that the hatch behind shows. */
function draw(canvas, rows, columns, most) {
  const [cold, warm, hot] = ["--heat0", "--heat1", "--heat2"].map(channels);
  canvas.width = columns;
  canvas.height = rows.length;
  const paint = canvas.getContext("2d");
  const image = paint.createImageData(columns, rows.length);
  rows.forEach((row, y) => {
    for (let x = 0; x < columns; x += 1) {
      const value = num(list(row.acks_per_s)[x]);
      if (value === null) continue;
      // Not in proportion, so that the quiet ones are told apart too.
      const heat = Math.min(1, value / most) ** 0.7 * 2;
      const [a, b] = heat < 1 ? [cold, warm] : [warm, hot];
      const part = heat < 1 ? heat : heat - 1;
      const at = (y * columns + x) * 4;
      for (let c = 0; c < 3; c += 1) image.data[at + c] = a[c] + (b[c] - a[c]) * part;
      image.data[at + 3] = SHADES;
    }
  });
  paint.putImageData(image, 0, 0);
}

export function Heat({ heat }) {
  const canvas = useRef(null);
  const [ref, width] = useWidth();
  const dark = useDark();
  const hover = useSignal(null);
  const times = list(heat?.at_ms);
  const rows = list(heat?.rows).filter((row) => list(row?.acks_per_s).length > 0);
  let most = 0;
  let hottest = null;
  for (const row of rows) {
    const high = Math.max(...row.acks_per_s.map((value) => num(value) ?? 0));
    if (high > most) [most, hottest] = [high, row.shard];
  }
  useEffect(() => {
    if (rows.length > 0) draw(canvas.current, rows, times.length, Math.max(most, 1e-9));
  }, [heat, dark]);
  if (rows.length === 0 || times.length === 0) return <p class="empty">No load was recorded yet.</p>;
  const height = Math.min(HEIGHT_PX, rows.length * ROW_PX_MAX);
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = Math.min(times.length - 1, Math.floor(((event.clientX - box.left) / box.width) * times.length));
    const y = Math.min(rows.length - 1, Math.floor(((event.clientY - box.top) / box.height) * rows.length));
    return { x: Math.max(0, x), y: Math.max(0, y) };
  };
  const label = `Appends a second by shard and time; the hottest is shard ${hottest} with ${count(most)} a second`;
  return (
    <div class="heatmap" ref={ref}>
      <p class="keys">
        <span class="key">
          <i class="ramp" aria-hidden="true" /> 0 to {count(most)} appends/s
        </span>
        <span class="key">
          hottest: <a href={href("shards", [String(hottest)])}>shard {hottest}</a>
        </span>
        {rows.some((row) => row.acks_per_s.some((value) => num(value) === null)) && (
          <span class="key">
            <i class="swatch untold" aria-hidden="true" /> only silent nodes know
          </span>
        )}
        <Read hover={hover} rows={rows} times={times} />
      </p>
      <div class="heatbox">
        <span class="told">
          {rows[0].shard === 0 ? "meta" : rows[0].shard}
          <br />
          <span class="last">{rows.at(-1).shard}</span>
        </span>
        <canvas
          ref={canvas}
          role="img"
          aria-label={label}
          style={{ height: `${height}px` }}
          onPointerMove={(event) => (hover.value = at(event))}
          onPointerLeave={() => (hover.value = null)}
          onClick={(event) => go(href("shards", [String(rows[at(event).y].shard)]))}
        />
      </div>
      <p class="told ends between">
        <span>{clock(times[0])}</span>
        {width > 500 && <span>{clock(times[Math.floor(times.length / 2)])}</span>}
        <span>{clock(times.at(-1))}</span>
      </p>
    </div>
  );
}

function Read({ hover, rows, times }) {
  if (!hover.value) return null;
  const { x, y } = hover.value;
  const row = rows[y];
  if (!row) return null;
  return (
    <span class="key">
      shard {row.shard} at {clock(times[x])}: <b>{count(num(row.acks_per_s[x]))}/s</b>
    </span>
  );
}

// The time that all panels of a chart share; as in the simulator's pages.
import { civil, clock, offset } from "./fmt.js";
import { zone } from "./zone.js";

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
const DAY_MS = 86_400_000;
const TICK_PX = 84;

export class Axis {
  /** From and to in ms, at least 1 ms apart. */
  constructor(from, to) {
    this.from = from;
    this.to = Math.max(to, from + 1);
  }

  /** Where `ms` is, 0 to 1. */
  part(ms) {
    return Math.min(1, Math.max(0, (ms - this.from) / (this.to - this.from)));
  }

  x(ms) {
    return `${(this.part(ms) * 100).toFixed(3)}%`;
  }

  width(from, to) {
    return `${(Math.max(0, this.part(to) - this.part(from)) * 100).toFixed(3)}%`;
  }

  at(part) {
    return this.from + (this.to - this.from) * part;
  }

  step(width) {
    const most = Math.max(2, Math.floor(width / TICK_PX));
    const span = this.to - this.from;
    const fits = STEPS_S.find((step) => span / (step * 1000) <= most);
    return fits ? fits * 1000 : Math.ceil(span / DAY_MS / most) * DAY_MS;
  }

  /** Moments to mark, at round times of the first zone. */
  ticks(width) {
    const step = this.step(width);
    const ahead = offset(this.from);
    const ticks = [];
    for (let ms = Math.ceil((this.from + ahead) / step) * step - ahead; ms <= this.to; ms += step) ticks.push(ms);
    return ticks.slice(0, 64);
  }

  /** A tick's words: `03:10`, with seconds or the day where the step asks for it. */
  word(ms, width) {
    const step = this.step(width);
    const time = clock(ms);
    if (step < 60_000) return time;
    const { month, day } = civil(ms, zone.value.first.zone);
    if (step >= DAY_MS) return `${month}-${day}`;
    return this.to - this.from > DAY_MS ? `${month}-${day} ${time.slice(0, 5)}` : time.slice(0, 5);
  }
}

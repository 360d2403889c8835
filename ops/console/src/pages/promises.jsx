// Promises: when each was last shown, by what, and whether that is too long ago.
import { useAnswer } from "../lib/hooks.js";
import { date, list, num, span, text } from "../lib/fmt.js";
import { Command, Mark, Section, Told } from "../parts/bits.jsx";

/** Class, shape and word. */
const STANDS = {
  shown: ["held", "✓", "shown"],
  old: ["pending", "▲", "too long ago"],
  never: ["pending", "▲", "never shown"],
  broken: ["failed", "✗", "broken"],
};

export function Promises() {
  const answer = useAnswer("/api/promises", 10_000);
  const { body } = answer;
  const promises = list(body?.promises).filter((one) => text(one?.promise));
  const due = promises.filter((one) => one.standing !== "shown");
  return (
    <>
      <Told answer={answer} />
      {body && (
        <Section title={due.length === 0 ? "All promises are shown" : `${due.length} of ${promises.length} promises are to be shown`}>
          <table class="stack promises">
            <thead>
              <tr>
                <th scope="col">promise</th>
                <th scope="col">stands</th>
                <th scope="col">last shown</th>
                <th scope="col">age, limit</th>
                <th scope="col">by, evidence</th>
              </tr>
            </thead>
            <tbody>
              {promises.map((one) => (
                <Row key={one.promise} one={one} />
              ))}
            </tbody>
          </table>
          <p class="told">A drill shows most of them, as its canaries can tell; replicas are compared by their own job.</p>
          <Command words="firebreak promises" />
        </Section>
      )}
    </>
  );
}

function Row({ one }) {
  const [cls, sign, word] = STANDS[one.standing] ?? ["calm", "?", text(one.standing, "not known")];
  const [age, limit] = [num(one.age_ms), num(one.limit_ms)];
  const part = age === null || !limit ? 0 : Math.min(100, (age / limit) * 100);
  const said = one.standing === "broken" ? text(one.broken_by) : text(one.evidence);
  return (
    <tr class={cls}>
      <th scope="row">
        <b>{one.promise}</b> {text(one.word)}
      </th>
      <td>
        <Mark cls={cls} sign={sign}>
          {word}
        </Mark>
      </td>
      <td data-label="last shown">{one.shown_ms == null ? "–" : date(num(one.shown_ms))}</td>
      <td data-label="age, limit">
        <span class={`share ${part >= 100 ? "near" : ""}`}>
          <span class="track" aria-hidden="true">
            <span style={{ width: `${part}%` }} />
          </span>
          <span class="n">
            {age === null ? "–" : span(age)} of {span(limit)}
          </span>
        </span>
      </td>
      <td class="why">
        {text(one.by) && <b>{one.by}</b>} {said || (one.standing === "never" ? `would be shown by ${text(one.shown_with)}` : "")}
      </td>
    </tr>
  );
}

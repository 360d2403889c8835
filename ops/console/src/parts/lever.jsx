// The safety lever: all drills end, and none begins until it is released. It is the only thing that the
// console changes. Who moves it says who they are, as with the command.
import { useState } from "preact/hooks";
import { text } from "../lib/fmt.js";
import { recall, remember } from "../lib/memory.js";
import { change } from "../lib/net.js";

const NAME_MAX = 64;
const WHY_MAX = 200;

export function Lever({ pulled }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [who, setWho] = useState(text(recall("who")));
  const [why, setWhy] = useState("");
  const [wrong, setWrong] = useState(null);
  const word = pulled ? "Release the lever" : "Stop all drills";
  if (!asking) {
    return (
      <span class="lever">
        <button type="button" class={pulled ? "" : "stop"} onClick={() => setAsking(true)}>
          {word}
        </button>
      </span>
    );
  }
  const move = async () => {
    setBusy(true);
    remember("who", who);
    const refused = await change("/api/drills/lever", pulled ? { pull: false, who } : { pull: true, who, why });
    setBusy(false);
    setWrong(refused);
    setAsking(refused !== null);
  };
  return (
    <span class="lever" role="group" aria-label={word}>
      <b>{pulled ? "Drills may begin again?" : "All drills end now, and none begins until the lever is released."}</b>{" "}
      <label>
        your name <input value={who} maxLength={NAME_MAX} onInput={(event) => setWho(event.currentTarget.value)} />
      </label>{" "}
      {!pulled && (
        <label>
          why <input value={why} maxLength={WHY_MAX} onInput={(event) => setWhy(event.currentTarget.value)} />
        </label>
      )}{" "}
      <button type="button" class={pulled ? "" : "stop"} disabled={busy || who.trim() === ""} onClick={move}>
        Yes: {word.toLowerCase()}
      </button>{" "}
      <button type="button" disabled={busy} onClick={() => setAsking(false)}>
        No
      </button>
      {wrong && (
        <span class="wrong" role="alert">
          <i aria-hidden="true">▲</i> {wrong}
        </span>
      )}
    </span>
  );
}

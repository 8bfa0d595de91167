// Everything that is asked of the server, and its errors in words.

export class Refused extends Error {
  constructor(status, { code, message, hint }) {
    super(hint ? `${message} ${hint}` : message);
    this.status = status;
    this.code = code;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { code: "gone", message: "`sealrec review` is not running any more.", hint: "" });
  }
  if (answer.ok) return answer;
  let told = { code: "error", message: `The server answered ${answer.status}.`, hint: "" };
  try {
    told = await answer.json();
  } catch { /* no JSON: the status says enough */ }
  throw new Refused(answer.status, told);
}

const json = async (path, options) => (await ask(path, options)).json();

function post(path, value) {
  const options = { method: "POST" };
  if (value !== undefined) {
    options.body = JSON.stringify(value);
    options.headers = { "Content-Type": "application/json" };
  }
  return ask(path, options);
}

export const library = () => json("library");

/** One recording on the server. */
export class Recording {
  constructor(id) {
    this.id = id;
    this.at = `recordings/${id}/`;
  }

  async unlock(kind, value) {
    return (await post(`${this.at}unlock`, { kind, value })).json();
  }

  manifest() { return json(`${this.at}manifest`); }
  timeline() { return json(`${this.at}timeline`); }
  verdict() { return json(`${this.at}verdict`); }
  frames(part, number) { return json(`${this.at}frames/${part}/${number}`); }
  lock() { return post(`${this.at}lock`); }
  active() { return post(`${this.at}active`); }
  leave() { navigator.sendBeacon(`${this.at}leave`); }
  playlist() { return `${this.at}playlist.m3u8`; }

  async init(part, signal) {
    return (await ask(`${this.at}init/${part}`, { signal })).arrayBuffer();
  }

  async media(part, number, signal) {
    return (await ask(`${this.at}media/${part}/${number}`, { signal })).arrayBuffer();
  }

  async still(pts, frameId) {
    await post(`${this.at}still`, { pts, frame_id: frameId });
  }

  async clip(fromPts, toPts) {
    return (await post(`${this.at}clip`, { from_pts: fromPts, to_pts: toPts })).json();
  }
}

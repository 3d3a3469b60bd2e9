// The daemon's API as functions. Knows URLs and JSON; knows nothing of the page.

const BASE = "/api/v1";

/** Ask the API; rejects with an Error whose message is the daemon's sentence. */
export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The daemon does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The daemon answered ${response.status}.`);
  return answer;
}

const part = encodeURIComponent;

export const frameUrl = (take, index, channel = "color", width = 960) =>
  `${BASE}/takes/${part(take)}/frame/${index}.jpg?channel=${channel}&width=${width}`;
export const liftUrl = (take, lift, file) => `${BASE}/takes/${part(take)}/lifts/${part(lift)}/${part(file)}`;
export const exportUrl = (take) => `${BASE}/takes/${part(take)}/export?to=mp4`;
export const takeInfo = (take) => call("GET", `/takes/${part(take)}`);

/** A WebSocket that comes back by itself. Returns { send(text) }, which is silent while there is no connection. */
export function connect(path, { open = () => {}, message, close = () => {} }) {
  let socket = null;
  let wait = 250;
  const begin = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}${BASE}${path}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { wait = 250; open(); };
    socket.onmessage = (event) => message(event.data);
    socket.onclose = () => {
      close();
      setTimeout(begin, wait);
      wait = Math.min(5000, wait * 2);
    };
  };
  begin();
  return { send: (text) => { if (socket?.readyState === WebSocket.OPEN) socket.send(text); } };
}

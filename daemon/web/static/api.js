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

export const takePath = (take) => `/takes/${part(take)}`;
export const liftPath = (take, lift) => `${takePath(take)}/lifts/${part(lift)}`;
export const frameUrl = (take, index, channel = "color", width = 960) =>
  `${BASE}${takePath(take)}/frame/${index}.jpg?channel=${channel}&width=${width}`;
export const thumbnailUrl = (take, lift = null) => `${BASE}${lift ? liftPath(take, lift) : takePath(take)}/thumbnail.jpg`;
export const liftUrl = (take, lift, file = "lifted.mp4") => `${BASE}${liftPath(take, lift)}/${part(file)}`;
export const previewUrl = (job, number) => `${BASE}/lifts/${part(job)}/preview.jpg?number=${number}`;
export const downloadUrl = (job) => `${BASE}/exports/${part(job)}/download`;
export const pairPath = (dataset, clip) => `/datasets/${part(dataset)}/pairs/${part(clip)}`;
export const pairUrl = (dataset, clip, kind) => `${BASE}${pairPath(dataset, clip)}/${kind}`;
export const datasetPath = (dataset) => `/datasets/${part(dataset)}`;

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

// Requests to the server. Errors have the field that they are about.
export class PageError extends Error {
  constructor(message, field = "") {
    super(message);
    this.field = field;
  }
}

export async function get(path) {
  return (await request(path, {})).json();
}

export async function send(method, path, body) {
  const headers = { "content-type": "application/json" };
  const options = body === undefined ? {} : { headers, body: JSON.stringify(body) };
  return (await request(path, { method, ...options })).json();
}

export async function upload(path, blob) {
  return (await request(path, { method: "POST", body: blob })).json();
}

// Yields the objects of a response whose lines are JSON.
export async function* lines(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(body), signal };
  const reader = (await request(path, options)).body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new PageError("The page’s program does not answer; is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) location.replace("login");
  const error = (await response.json().catch(() => ({}))).error;
  throw new PageError(error?.message ?? `The request failed (${response.status}).`, error?.field);
}

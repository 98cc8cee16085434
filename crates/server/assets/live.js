// Keeps a page fresh: one stream per visible tab. Regions are taken from the page itself, made again by the server;
// log lines come over the stream. Nothing here is needed to read or to act.
import {Log} from "/assets/log.js";

const PAUSE = 250;
let source = null;
let timer = null;

const holder = () => document.querySelector("[data-live]");

function connect() {
  const at = holder();
  if (!at || document.hidden || source) return;
  const log = at.querySelector("#log") ? new Log(at) : null;
  source = new EventSource(at.dataset.live);
  source.addEventListener("run", soon);
  source.addEventListener("resync", (event) => { log?.restart(JSON.parse(event.data)); soon(); });
  source.addEventListener("log", (event) => {
    const piece = JSON.parse(event.data);
    if (log) log.take(piece); else soon();
    at.dataset.live = withCursor(at.dataset.live, event.lastEventId);
  });
  source.addEventListener("note", (event) => {
    const note = JSON.parse(event.data);
    const place = document.getElementById("note");
    if (place && note.node === at.dataset.node) place.textContent = note.text;
  });
  source.onopen = () => say("");
  source.onerror = () => say("reconnecting …");
}

function disconnect() {
  source?.close();
  source = null;
}

// A tab that was hidden goes on where it was.
function withCursor(address, cursor) {
  const url = new URL(address, location.href);
  url.searchParams.set("cursor", cursor);
  return url.pathname + url.search;
}

function say(text) {
  const place = document.getElementById("live-state");
  if (place) place.textContent = text;
}

function soon() {
  timer ??= setTimeout(refresh, PAUSE);
}

async function refresh() {
  try {
    const answer = await fetch(location.href, {headers: {accept: "text/html"}});
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = page.title;
    if (isOtherLog(page)) replacePane(page);
    for (const region of document.querySelectorAll("[data-region]")) take(region, page);
    if (!page.querySelector("[data-live]")) disconnect();
  } finally {
    timer = null;
  }
}

function take(region, page) {
  const fresh = page.getElementById(region.id);
  // Somebody who types or tabs in a region keeps it until they leave.
  const isBusy = region.contains(document.activeElement) && document.activeElement.matches("input, select, summary");
  if (!fresh || isBusy || fresh.innerHTML === region.innerHTML) return;
  const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  region.replaceChildren(...fresh.childNodes);
  if (focused) region.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({preventScroll: true});
}

function isOtherLog(page) {
  const [mine, theirs] = [document.getElementById("pane"), page.getElementById("pane")];
  return mine && theirs && (mine.dataset.node !== theirs.dataset.node || mine.dataset.attempt !== theirs.dataset.attempt);
}

function replacePane(page) {
  const isFollowing = Log.isAtEnd(document.getElementById("log"));
  if (!isFollowing) return;
  disconnect();
  document.getElementById("pane").replaceWith(page.getElementById("pane"));
  connect();
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
connect();

// The login link that the server prints carries the token behind `#`, where no server and no log sees it.
const login = document.getElementById("login");
if (login && location.hash.startsWith("#pk_")) {
  login.elements.token.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  login.requestSubmit();
}

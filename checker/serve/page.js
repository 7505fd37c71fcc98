"use strict";
// The daemon renders; this only asks again and swaps in what has changed.
const every = 500, patience = 1500;
let last = Date.now();

function swap(fresh) {
  for (const now of document.querySelectorAll("[data-live]")) {
    const then = fresh.getElementById(now.id);
    if (then && then.outerHTML !== now.outerHTML) now.replaceWith(document.adoptNode(then));
  }
  document.title = fresh.title;
}

async function refresh() {
  try {
    const reply = await fetch("/status?page", {cache: "no-store", signal: AbortSignal.timeout(patience)});
    if (!reply.ok) throw new Error();
    swap(new DOMParser().parseFromString(await reply.text(), "text/html"));
    last = Date.now();
    document.documentElement.classList.remove("lost");
  } catch {
    document.documentElement.classList.add("lost");
    document.title = "? no answer";
    document.getElementById("silence").textContent = Math.round((Date.now() - last) / 1000);
  }
  setTimeout(refresh, every);
}
setTimeout(refresh, every);

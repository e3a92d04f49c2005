'use strict';
const counts = new Map();

// Fills in how much each count has grown per second since the page was last refreshed.
function showRates() {
  const now = performance.now();
  for (const cell of document.querySelectorAll('[data-rate]')) {
    const count = Number(cell.textContent);
    const before = counts.get(cell.dataset.rate);
    counts.set(cell.dataset.rate, { count, now });
    if (before && count >= before.count) {
      const rate = (count - before.count) * 1000 / (now - before.now);
      cell.nextElementSibling.textContent = rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate);
    }
  }
}

async function refresh() {
  try {
    const page = await (await fetch('/')).text();
    const main = new DOMParser().parseFromString(page, 'text/html').querySelector('main');
    document.querySelector('main').replaceWith(main);
    showRates();
  } catch {
    const state = document.getElementById('state');
    state.textContent = 'NO ANSWER';
    state.className = '';
  }
  setTimeout(refresh, 2000);
}

document.addEventListener('submit', async event => {
  event.preventDefault();
  const output = document.querySelector('output');
  const path = new URL(event.target.action).pathname;
  try {
    const reply = await fetch(path, { method: 'POST' });
    output.textContent = `POST ${path}: ${await reply.text()}`;
  } catch {
    output.textContent = `POST ${path}: no answer`;
  }
  event.target.closest('details')?.removeAttribute('open');
});

showRates();
setTimeout(refresh, 2000);

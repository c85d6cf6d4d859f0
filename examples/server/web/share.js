// Copying a link, with an answer on the button itself.

import { swapIcon } from './icons.js';

/** Copies `text`; where the clipboard is closed, selects the field that shows it. */
async function copy(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (!field) return false;
    field.focus();
    field.select();
    return Boolean(document.execCommand?.('copy'));
  }
}

/** Makes `button` (an icon, then a word) copy what `text()` gives. */
export function wireCopy(button, text, field, announce = () => {}) {
  const [mark, word] = button.children;
  const before = { icon: mark.dataset.icon, word: word.textContent };
  let timer = 0;
  button.addEventListener('click', async () => {
    const done = await copy(text(), field);
    swapIcon(mark, done ? 'check' : before.icon);
    word.textContent = done ? 'Copied' : 'Press Ctrl C';
    announce(done ? 'Link copied.' : 'The link is selected; press Control C to copy it.');
    clearTimeout(timer);
    timer = setTimeout(() => {
      swapIcon(mark, before.icon);
      word.textContent = before.word;
    }, 2000);
  });
}

// A line of the transcript while a person corrects it.

import { explain } from './explain.js';

/** Takes the place of a row's text until it is saved by `save(text)`, which redraws the row, or given up. */
export class LineEditor {
  #row;
  #text;

  constructor(row, cue, save) {
    // one at a time: what is saved draws all rows anew
    const open = row.parentNode.querySelector('.editing textarea');
    if (open) return open.focus();
    this.#row = row;
    this.#text = row.querySelector('.line-text');
    const before = String(cue.text).replace(/\s+/g, ' ').trim();
    const form = document.createElement('form');
    form.className = 'line-form';
    const area = Object.assign(document.createElement('textarea'), { value: before, rows: 3, maxLength: 10_000, spellcheck: true });
    area.dataset.testid = 'line-words';
    area.setAttribute('aria-label', 'What is said here');
    const keep = button('Save', 'button small', 'save-line');
    keep.type = 'submit';
    const giveUp = button('Cancel', 'button small ghost', 'cancel-line');
    const refused = document.createElement('p');
    refused.className = 'line-refused';
    refused.setAttribute('role', 'alert');
    const buttons = document.createElement('div');
    buttons.append(keep, giveUp);
    form.append(area, buttons, refused);
    row.classList.add('editing');
    this.#text.replaceWith(form);
    area.focus();
    area.select();

    giveUp.addEventListener('click', () => this.#close(form));
    area.addEventListener('keydown', (event) => {
      // while an input method is at work, Enter is its own
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
      if (event.key === 'Escape') this.#close(form);
      event.stopPropagation();
    });
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const words = area.value.replace(/\s+/g, ' ').trim();
      if (words === before) return this.#close(form);
      keep.disabled = area.readOnly = true;
      refused.textContent = '';
      try {
        await save(words);
      } catch (error) {
        const told = explain(error, 'keep this');
        refused.textContent = `${told.title} ${told.detail}`;
        keep.disabled = area.readOnly = false;
      }
    });
  }

  #close(form) {
    form.replaceWith(this.#text);
    this.#row.classList.remove('editing');
    this.#row.querySelector('.line-edit').focus();
  }
}

function button(words, className, testid) {
  const it = Object.assign(document.createElement('button'), { type: 'button', className, textContent: words });
  it.dataset.testid = testid;
  return it;
}

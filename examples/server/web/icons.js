// Line icons, drawn on a 24-unit grid. `paintIcons` fills every element that names one with data-icon.

const SHAPES = {
  alert: '<circle cx="12" cy="12" r="9"/><path d="M12 7.5v5.5M12 16.4v.1"/>',
  both: '<rect x="3" y="4.5" width="18" height="13" rx="2.5"/><path d="M9 21h6"/><circle cx="7.8" cy="13" r="2.4" fill="currentColor" stroke="none"/>',
  camera: '<rect x="2.5" y="6.5" width="13" height="11" rx="2.5"/><path d="m15.5 10.6 6-3.1v9l-6-3.1"/>',
  captions: '<rect x="3" y="5" width="18" height="14" rx="3"/><path d="M10.4 10.6a2.1 2.1 0 1 0 0 2.8M17.4 10.6a2.1 2.1 0 1 0 0 2.8"/>',
  check: '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
  close: '<path d="m6.5 6.5 11 11M17.5 6.5l-11 11"/>',
  copy: '<rect x="8.5" y="8.5" width="11" height="11" rx="2.5"/><path d="M15.5 5.5a2 2 0 0 0-2-1H6.5a2 2 0 0 0-2 2v7a2 2 0 0 0 1 2"/>',
  download: '<path d="M12 4v11m0 0 4.5-4.5M12 15l-4.5-4.5M5 19.5h14"/>',
  expand: '<path d="M4.5 9V6a1.5 1.5 0 0 1 1.5-1.5h3M15 4.5h3A1.5 1.5 0 0 1 19.5 6v3M19.5 15v3a1.5 1.5 0 0 1-1.5 1.5h-3M9 19.5H6A1.5 1.5 0 0 1 4.5 18v-3"/>',
  external: '<path d="M14 4.5h5.5V10M19 5l-8 8M10 5.5H6A1.5 1.5 0 0 0 4.5 7v11A1.5 1.5 0 0 0 6 19.5h11a1.5 1.5 0 0 0 1.5-1.5v-4"/>',
  film: '<rect x="3.5" y="5" width="17" height="14" rx="2.5"/><path d="m10.3 9.3 4.4 2.7-4.4 2.7z"/>',
  link: '<path d="M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1"/>',
  mic: '<rect x="9" y="3.5" width="6" height="11" rx="3"/><path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3"/>',
  muted: '<path d="M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5"/>',
  pause: '<path d="M8.5 5.5v13M15.5 5.5v13" stroke-width="3"/>',
  pencil: '<path d="m5 16.2-.7 3.5 3.5-.7L19 7.8a1.9 1.9 0 0 0-2.8-2.8zM14.6 6.6l2.8 2.8"/>',
  person: '<circle cx="12" cy="9" r="3.8" fill="currentColor" stroke="none"/><path d="M4.5 20.5a7.5 7.5 0 0 1 15 0z" fill="currentColor" stroke="none"/>',
  play: '<path d="M8 5.3v13.4a.6.6 0 0 0 .9.5l10.6-6.7a.6.6 0 0 0 0-1L8.9 4.8a.6.6 0 0 0-.9.5z" fill="currentColor" stroke="none"/>',
  replay: '<path d="M5 5.5v4.5h4.5M5.5 10a7.5 7.5 0 1 1-.9 5"/>',
  screen: '<rect x="3" y="4.5" width="18" height="13" rx="2.5"/><path d="M9 21h6"/>',
  shrink: '<path d="M9 4.5v3A1.5 1.5 0 0 1 7.5 9h-3M19.5 9h-3A1.5 1.5 0 0 1 15 7.5v-3M15 19.5v-3a1.5 1.5 0 0 1 1.5-1.5h3M4.5 15h3A1.5 1.5 0 0 1 9 16.5v3"/>',
  trash: '<path d="M5 7h14M9.5 7V5.5a1 1 0 0 1 1-1h3a1 1 0 0 1 1 1V7M7 7l.8 11.2A1.5 1.5 0 0 0 9.3 19.5h5.4a1.5 1.5 0 0 0 1.5-1.3L17 7M10.5 10.5v5.5M13.5 10.5v5.5"/>',
  volume: '<path d="M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a7.8 7.8 0 0 1 0 11"/>',
};

/** Markup of one icon; decorative, so hidden from screen readers. */
export function icon(name) {
  return `<svg viewBox="0 0 24 24" width="20" height="20" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${SHAPES[name]}</svg>`;
}

/** Shows another icon in an element that already holds one. */
export function swapIcon(holder, name) {
  if (holder.dataset.icon === name && holder.firstChild) return;
  holder.dataset.icon = name;
  holder.innerHTML = icon(name);
}

/** Draws every named icon below `root`. */
export function paintIcons(root = document) {
  for (const holder of root.querySelectorAll('[data-icon]')) holder.innerHTML = icon(holder.dataset.icon);
}

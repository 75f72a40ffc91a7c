// Keep names and options in tables in one piece. Longer code, such as the names of tests, may break.
document.addEventListener('DOMContentLoaded', () => {
  for (const code of document.querySelectorAll('.md-typeset table:not([class]) code')) {
    if (code.textContent.length <= 40) code.style.whiteSpace = 'nowrap';
  }
});

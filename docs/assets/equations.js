// Sets what arithmatex marks as mathematics; KaTeX lies beside this file.
document.addEventListener('DOMContentLoaded', () => {
  for (const element of document.querySelectorAll('.arithmatex')) {
    renderMathInElement(element, {
      delimiters: [
        {left: '\\(', right: '\\)', display: false},
        {left: '\\[', right: '\\]', display: true},
      ],
      throwOnError: true,
    });
  }
});

// Tables that sort by a click on a heading and filter as one types. Without this script they are plain tables.
(() => {
  'use strict';
  const value = (row, column) => {
    const cell = row.cells[column], v = cell.dataset.v ?? cell.textContent.trim();
    return v === '' || v === '–' ? null : (isNaN(v) ? v.toLowerCase() : Number(v));
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1;

  const sort = (table, column, down) => {
    const rows = [...table.tBodies[0].rows].map(row => [value(row, column), row]);
    rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : compare(a, b)*(down ? -1 : 1));
    table.tBodies[0].append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((th, i) => {
      if (i === column) th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else th.removeAttribute('aria-sort');
    });
  };

  const makeSortable = table => [...table.tHead.rows[0].cells].forEach((th, i) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener('click', () => {
      const numbers = [...table.tBodies[0].rows].some(row => typeof value(row, i) === 'number');
      const was = th.getAttribute('aria-sort');
      sort(table, i, was ? was === 'ascending' : numbers);
    });
  });

  const makeFilter = table => {
    const box = document.createElement('div'), label = document.createElement('label'), input = document.createElement('input'), count = document.createElement('output');
    box.className = 'pv-filter';
    label.textContent = 'Filter ';
    input.type = 'search';
    input.placeholder = 'any word in a row';
    label.append(input);
    box.append(label, count);
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean), rows = [...table.tBodies[0].rows];
      rows.forEach(row => { row.hidden = !words.every(w => row.textContent.toLowerCase().includes(w)); });
      count.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
    };
    input.addEventListener('input', apply);
    table.parentElement.before(box);
    apply();
  };

  document.querySelectorAll('table.pv-table').forEach(table => {
    makeSortable(table);
    if (table.tBodies[0].rows.length > 1) makeFilter(table);
  });
})();

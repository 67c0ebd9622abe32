/* Style and script of the page. It is complete without the script, which only sorts and filters. */

export const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--soft:#f4f6f8;--size:#0b5cad;--keys:#8250a8;--ok:#116329;--bad:#b3261e;--warn:#7a4b00;--mark:#2f6f4f;--gap:#d9480f;--drill:#7a3ff2}
@media screen and (prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#a3adb8;--line:#3d444d;--soft:#161b22;--size:#79b8ff;--keys:#d2a8ff;--ok:#56d364;--bad:#ff9a92;--warn:#e3b341;--mark:#4fb583;--gap:#ff9e64;--drill:#b794ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
header,main{max-width:1500px;margin:auto;padding:0 24px}
header{padding-top:28px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.2rem;margin:36px 0 10px}
p{margin:4px 0}
header p,.axis,td span,td time,.note{color:var(--dim)}
a{color:var(--size)}
:focus-visible{outline:3px solid var(--size);outline-offset:2px;border-radius:3px}
.skip{position:absolute;left:-999px}
.skip:focus{left:12px;top:8px;background:var(--bg);padding:4px 8px}
.vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(178px,1fr));gap:12px;margin:0}
.answers>div{border:1px solid var(--line);border-radius:8px;padding:12px 16px;background:var(--soft)}
.answers dt{color:var(--dim);font-size:.87rem}
.answers dd{margin:2px 0 0}
.answers dd:first-of-type{font-size:1.35rem;font-weight:600;line-height:1.3}
.answers .bad:first-of-type,.problem,.late .state,.invalid .state,.unreachable .state{color:var(--bad)}
.answers .good:first-of-type,.ok .state{color:var(--ok)}
.not-drilled .state,.not-drilled .problem{color:var(--warn)}
.exceptions{columns:2 420px;column-gap:32px;margin:0}
.exceptions>div{break-inside:avoid;margin-bottom:10px}
.exceptions dt{font-weight:600}
.exceptions dd{margin:0}
form{display:flex;flex-wrap:wrap;gap:12px 20px;align-items:end;margin-bottom:12px}
form[hidden]{display:none}
label{display:grid;gap:2px;font-size:.87rem;color:var(--dim)}
input,select{font:inherit;color:var(--fg);background:var(--bg);border:1px solid var(--dim);border-radius:6px;padding:6px 8px;min-height:38px}
output{padding-bottom:8px}
.legend{display:flex;flex-wrap:wrap;gap:2px 20px;list-style:none;padding:0;margin:0 0 8px;font-size:.87rem;color:var(--dim)}
.legend svg{width:28px;height:14px;vertical-align:-2px;margin-right:6px}
table{width:100%;border-collapse:collapse}
caption{text-align:left}
th,td{text-align:left;vertical-align:top;padding:8px 12px 2px 0}
thead th{border-bottom:1px solid var(--dim);padding-bottom:4px;font-size:.87rem;vertical-align:bottom}
thead button{all:unset;cursor:pointer;font-weight:600;white-space:nowrap}
thead button:focus-visible{outline:3px solid var(--size);outline-offset:2px}
thead button{text-decoration:underline dotted;text-underline-offset:4px}
[aria-sort=ascending] button::after{content:" ↑"}
[aria-sort=descending] button::after{content:" ↓"}
tbody{border-bottom:1px solid var(--line);break-inside:avoid}
tbody[hidden]{display:none}
tbody th{font-weight:600;overflow-wrap:anywhere;min-width:9.5rem}
tbody th,tbody td{font-variant-numeric:tabular-nums}
td time{display:block;font-size:.82rem;white-space:nowrap}
td span{font-size:.87rem}
.by{display:block;white-space:nowrap}
td[data-l]{white-space:nowrap}
td[data-l=Protection]{white-space:normal}
.state{font-weight:600;white-space:nowrap;font-size:1em}
.more{padding:4px 0 12px}
.strip{display:block;width:100%;height:56px}
.strip path{fill:none;vector-effect:non-scaling-stroke;stroke-width:1.5}
.strip .b{fill:var(--soft)}
.w{stroke:var(--line);stroke-width:1}
.s{stroke:var(--mark)}
.strip .s{fill:var(--mark)}
.g{fill:var(--gap)}
.z{stroke:var(--size);stroke-width:2}
.k{stroke:var(--keys);stroke-width:2;stroke-dasharray:5 4}
.strip .d,.legend .d{stroke:var(--drill);stroke-width:9;stroke-linecap:round}
.legend path{fill:none;stroke-width:2}
.axis{display:flex;justify-content:space-between;gap:12px;font-size:.82rem;margin:0}
.more ul{margin:6px 0;padding-left:20px}
summary{cursor:pointer;color:var(--dim);font-size:.87rem;width:max-content;padding:2px 0}
details dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:6px 28px;margin:4px 0}
dt{color:var(--dim);font-size:.87rem}
dd{margin:0;overflow-wrap:anywhere}
.exceptions dt{color:var(--fg);font-size:1em}
.words dt{color:var(--fg);font-weight:600;font-size:1em;margin-top:8px}
.words{max-width:80ch;padding-bottom:40px}
@media(max-width:1150px){
body{font-size:14px}
th,td{padding-right:10px}
tbody th{min-width:8rem}
}
@media print,(max-width:820px){
header,main{padding-left:14px;padding-right:14px}
thead{display:none}
.js thead{display:block}
.js thead tr{display:flex;flex-wrap:wrap;gap:6px 16px;padding-bottom:8px}
thead th{border:0;padding:0}
table,tbody,tbody tr,tbody th,tbody td{display:block}
tbody{padding:12px 0}
tbody tr:first-child{display:grid;grid-template-columns:1fr 1fr;gap:6px 14px}
tbody th{grid-column:1/-1;font-size:1.1rem;padding:0}
tbody td{padding:0}
tbody td[data-l]::before{content:attr(data-l);display:block;font-size:.82rem;color:var(--dim)}
td time{white-space:normal}
td[data-l]{white-space:normal}
}
@media print{
thead,.js thead{display:none!important}
tbody tr:first-child{grid-template-columns:repeat(5,1fr)!important}
.answers{grid-template-columns:repeat(5,1fr)!important}
.answers>div{padding:8px 10px}
@page{margin:14mm}
body{font-size:9.5pt}
header,main{max-width:none;padding:0}
form,.skip{display:none!important}
h2{break-after:avoid}
.strip{height:40px}
tbody td,tbody th,thead th{padding-right:8px}
td time,td[data-l]{white-space:normal}
tbody th{min-width:6rem}
details summary{display:none}
details::details-content{display:block;content-visibility:visible;height:auto}
.words{padding-bottom:0}
}
`;

export const SCRIPT = `
(() => {
  const table = document.querySelector('table'), form = document.querySelector('form');
  if (!table || !form) return;
  document.documentElement.className = 'js';
  const groups = [...table.tBodies], heads = [...table.tHead.rows[0].cells], count = form.querySelector('output');
  const text = (group) => group.textContent.toLowerCase();
  const show = () => {
    const wanted = form.elements.words.value.trim().toLowerCase().split(/\\s+/), state = form.elements.state.value;
    let shown = 0;
    for (const group of groups) {
      const isShown = (state === '' || group.className === state) && wanted.every((word) => text(group).includes(word));
      group.hidden = !isShown;
      shown += isShown;
    }
    count.value = shown + ' of ' + groups.length + ' clusters';
  };
  const value = (group, column) => {
    const cell = group.rows[0].cells[column];
    return column < 2 ? cell.textContent : cell.dataset.v === undefined ? -Infinity : Number(cell.dataset.v);
  };
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const sign = head.ariaSort === 'ascending' ? -1 : 1;
      for (const other of heads) other.removeAttribute('aria-sort');
      head.ariaSort = sign === 1 ? 'ascending' : 'descending';
      const keys = new Map(groups.map((group) => [group, value(group, column)]));
      groups.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        return sign * (typeof x === 'string' ? x.localeCompare(y, 'en', { numeric: true }) : x < y ? -1 : x > y ? 1 : 0);
      });
      table.append(...groups);
    });
  });
  form.addEventListener('input', show);
  form.addEventListener('submit', (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
`;

import t from 'tap';
import { noProgress, progressLine, type Terminal } from '../src/progress.ts';

/** A terminal that keeps what it was last sent, and a clock that is moved by hand. */
function screen(columns: number | undefined): Terminal & { shown: string; now: number } {
  const terminal = { columns, shown: '', now: 0, write: (text: string) => void (terminal.shown = text) };
  return terminal;
}

t.test('a line shows share, bytes, rate and what is left, and is removed at the end', (t) => {
  const terminal = screen(100);
  const progress = progressLine(terminal, () => terminal.now)('verifying x', 100e6);
  terminal.now = 200;
  progress.advance(10e6);
  t.equal(terminal.shown, '', 'quick work needs none');
  terminal.now = 1000;
  progress.advance(40e6);
  t.equal(terminal.shown, '\rverifying x  50%  50 MB of 100 MB  50 MB/s  1s left  [##########..........]\u001b[K');
  const before = terminal.shown;
  terminal.now = 1010;
  progress.advance(1e6);
  t.equal(terminal.shown, before, 'it is not drawn for every piece');
  terminal.now = 3000;
  progress.advance(60e6);
  t.match(terminal.shown, /100% {2}111 MB of 111 MB {2}37 MB\/s {2}\[#{20}\]/, 'no more than all');
  progress.end();
  t.equal(terminal.shown, '\r\u001b[K');
  t.end();
});

t.test('where there are no bytes, the time is shown', (t) => {
  const terminal = screen(80);
  const progress = progressLine(terminal, () => terminal.now)('waiting for m2 to start');
  terminal.now = 61_000;
  progress.advance(0);
  t.equal(terminal.shown, '\rwaiting for m2 to start  1m\u001b[K');
  t.end();
});

t.test('it is narrower than the terminal, whatever is worked on', (t) => {
  const names = [
    'x',
    'reading back prod-eu/kubernetes-etcd-snapshot_20261128_060000.db',
    'n'.repeat(2048),
    'a\u001b[2Jb',
  ];
  for (const columns of [undefined, 0, 1, 2, 10, 20, 40, 60, 79, 80, 81, 100, 120, 250]) {
    for (const name of names) {
      const terminal = screen(columns);
      const progress = progressLine(terminal, () => terminal.now)(name, 222e6);
      terminal.now = 1000;
      progress.advance(35e6);
      const text = terminal.shown.slice('\r'.length, -'\u001b[K'.length);
      t.ok(text.length < Math.max(2, columns || 80), `${columns} columns: ${text}`);
      t.notMatch(text, /\p{C}/u, 'nothing that moves the cursor');
      if ((columns || 80) >= 40) t.match(text, '15%');
      if ((columns || 80) >= 80)
        t.match(text, /^(x|….*(\d{6}\.db|n)|reading.*|a\\u\{1b\}\[2Jb) {2}15% {2}35 MB of 222 MB {2}35 MB\/s/);
    }
  }
  t.end();
});

t.test('no progress without a terminal', (t) => {
  const progress = noProgress('x', 1);
  progress.advance(1);
  progress.end();
  t.end();
});

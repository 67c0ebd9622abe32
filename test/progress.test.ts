import t from 'tap';
import { noProgress, progressBar } from '../src/progress.ts';

t.test('a bar shows share, speed and what is left, and is removed at the end', (t) => {
  let [now, shown] = [0, ''];
  const progress = progressBar(
    (text) => (shown = text),
    () => now,
  )('verifying x', 100e6);
  now = 200;
  progress.advance(10e6);
  t.equal(shown, '', 'quick work needs no bar');
  now = 1000;
  progress.advance(40e6);
  t.match(shown, /^\rverifying x \[#{15}\.{15}\] 50% 50 MB\/s, 1 s left/);
  const before = shown;
  now = 1010;
  progress.advance(1e6);
  t.equal(shown, before, 'it is not drawn for every piece');
  now = 3000;
  progress.advance(60e6);
  t.match(shown, /\[#{30}\] 100%/, 'no more than all');
  progress.end();
  t.equal(shown, '\r\u001b[K');
  t.end();
});

t.test('nothing is shown where nobody watches', (t) => {
  const progress = noProgress('x', 1);
  progress.advance(1);
  progress.end();
  t.end();
});

import t from 'tap';
import { checkPromises } from '../support/promises.ts';

t.test('whatever the container holds and whatever clocks say: retention keeps what it promises', (t) => {
  let removals = 0;
  for (let seed = 1; seed <= 2000; seed++) {
    const checked = checkPromises(seed);
    removals += checked.removals;
    if (checked.broken.length > 0) t.fail(`seed ${seed}: ${checked.broken.join('; ')}`);
  }
  t.ok(removals > 5000, `${removals} removals were looked at`);
  t.end();
});

import t from 'tap';
import { checkPromises } from '../support/promises.ts';

/** Seeds that once found a fault, of the program or of this model of it. */
const FOUND = [1_036_712, 1_012_076, 1_016_511];

t.test('whatever the container holds and whatever clocks say: retention keeps what it promises', (t) => {
  let removals = 0;
  for (const seed of [...FOUND, ...Array.from({ length: 2000 }, (_, index) => index + 1)]) {
    const checked = checkPromises(seed);
    removals += checked.removals;
    if (checked.broken.length > 0) t.fail(`seed ${seed}: ${checked.broken.join('; ')}`);
  }
  t.ok(removals > 5000, `${removals} removals were looked at`);
  t.end();
});

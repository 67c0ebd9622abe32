import t from 'tap';
import { checkPromises } from '../support/promises.ts';

/** The seeds begin here; another number tries other catalogues. */
const FIRST = Number(process.env['RETENTION_FIRST'] ?? 1_000_000);
const CATALOGUES = Number(process.env['RETENTION_CATALOGUES'] ?? 100_000);

t.setTimeout(1_800_000);

t.test(`${CATALOGUES} catalogues from seed ${FIRST} on: retention keeps what it promises`, (t) => {
  let removals = 0;
  for (let seed = FIRST; seed < FIRST + CATALOGUES; seed++) {
    const checked = checkPromises(seed);
    removals += checked.removals;
    if (checked.broken.length > 0) t.fail(`seed ${seed}: ${checked.broken.join('; ')}`);
  }
  t.comment(`seeds ${FIRST} to ${FIRST + CATALOGUES - 1}: ${removals} removals were looked at`);
  t.ok(removals > CATALOGUES);
  t.end();
});

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Encrypter } from 'age-encryption';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { readIdentities } from '../../src/sealed/identities.ts';
import { Secret } from '../../src/secret.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { without } from '../support/judges.ts';
import { temporaryFolder } from '../support/process.ts';
import { seal } from '../support/sealed-bytes.ts';
import { onTerminal } from '../support/terminal.ts';
import { MAIN, runWorker } from '../support/worker.ts';

/* Identity files that age has encrypted with a passphrase. */

const PASSPHRASE = 'correct horse';
const dir = temporaryFolder('passphrase');
const identity = await generateIdentity('x25519');
const [file, protectedKey] = [join(dir, 'x.db.age'), join(dir, 'identity.age')];
await writeFile(file, (await seal(SNAPSHOT, 'age', [identity])).stored);
const encrypter = new Encrypter();
encrypter.setPassphrase(PASSPHRASE);
encrypter.setScryptWorkFactor(12);
await writeFile(protectedKey, await encrypter.encrypt(`# a key\n${identity.secret.reveal()}\n`));
const skip = without('script');
const verify = `cd '${dir}' && exec '${process.execPath}' -- '${MAIN}' verify '${file}' --identity '${protectedKey}'`;

t.test('the terminal asks for it, and does not show it', { skip }, async (t) => {
  const { code, stdout } = await onTerminal(verify, [['Passphrase of', `${PASSPHRASE}\r`]]);
  t.equal(code, 0, stdout);
  t.match(stdout, 'is valid.');
  t.notMatch(stdout, PASSPHRASE);
  t.notMatch(stdout, identity.secret.reveal());
  const corrected = await onTerminal(verify, [['Passphrase of', `wrong${'\u007f'.repeat(5)}${PASSPHRASE}\n`]]);
  t.equal(corrected.code, 0, 'the backspace key works');
});

t.test('a wrong one, none, and Ctrl-C', { skip }, async (t) => {
  const wrong = await onTerminal(verify, [['Passphrase of', 'wrong horse\r']]);
  t.equal(wrong.code, 2, wrong.stdout);
  t.match(wrong.stdout, /passphrase of .* is wrong/);
  t.notMatch(wrong.stdout, 'wrong horse');
  t.equal((await onTerminal(verify, [['Passphrase of', '\u0004']])).code, 2, 'the end of input');
  t.equal((await onTerminal(verify, [['Passphrase of', 'corr\u0003']])).code, 130);
});

t.test('without a terminal', async (t) => {
  const { code, stderr } = await runWorker(['verify', file, '--identity', protectedKey], {});
  t.equal(code, 2, stderr);
  t.match(stderr, 'stdin is not a terminal');
});

t.test('files that age itself has encrypted', { skip: skip || without('age') }, async (t) => {
  const [plain, byAge] = [join(dir, 'plain.txt'), join(dir, 'by-age.txt')];
  await writeFile(plain, `${identity.secret.reveal()}\n`);
  for (const armor of ['', '-a']) {
    const { code, stdout } = await onTerminal(`age -p ${armor} -o '${byAge}' '${plain}'`, [
      ['Enter passphrase', `${PASSPHRASE}\n`],
      ['Confirm passphrase', `${PASSPHRASE}\n`],
    ]);
    t.equal(code, 0, stdout);
    t.match((await readFile(byAge)).toString('latin1'), armor === '' ? /^age-encryption/ : /^-----BEGIN AGE/);
    const [found] = await readIdentities(byAge, async () => new Secret(PASSPHRASE));
    t.equal(found?.fingerprint, identity.fingerprint);
  }
});

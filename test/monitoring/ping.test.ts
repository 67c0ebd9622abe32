import { join } from 'node:path';
import t from 'tap';
import { ping } from '../../src/monitoring/ping.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { ConnectProxy } from '../support/connect-proxy.ts';
import { Listener } from '../support/listener.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('ping');
const authority = await makeAuthority(join(dir, 'certs'));

t.test('why a message did not arrive, in words', async (t) => {
  const moved = await Listener.start(301);
  const untrusted = await Listener.start(200, authority);
  t.teardown(async () => Promise.all([moved.stop(), untrusted.stop()]));
  for (const [origin, why] of [
    [moved.origin, /^the answer was 301: a server said so$/],
    [moved.origin.replace('http:', 'https:'), /SSL|packet length|wrong version/],
    [untrusted.origin, /self-signed|unable to verify|certificate/],
    ['http://no-such-host.invalid', /ENOTFOUND|EAI_AGAIN/],
  ] as const) {
    const failure = (await ping(new URL(`${origin}/token`), 'success', {}, AbortSignal.timeout(2000)))?.reason;
    t.match(failure, why);
    t.notMatch(failure, 'token');
  }
});

t.test('hosts that NO_PROXY names are pinged directly', async (t) => {
  const proxy = await ConnectProxy.start();
  const listener = await Listener.start(200, authority);
  t.teardown(async () => Promise.all([proxy.stop(), listener.stop()]));
  await trust(authority);
  const url = new URL(`${listener.origin}/token`);
  for (const [env, count] of [
    [{ all_proxy: proxy.url() }, 1],
    [{ HTTPS_PROXY: proxy.url(), no_proxy: 'example.com,localhost' }, 1],
    [{ HTTPS_PROXY: proxy.url(), NO_PROXY: '.example.com' }, 2],
  ] as const) {
    t.equal(await ping(url, 'success', env, AbortSignal.timeout(5000)), undefined);
    t.equal(proxy.targets.length, count, JSON.stringify(Object.keys(env)));
  }
  const wrong = { HTTPS_PROXY: proxy.url('a-wrong-word') };
  const refused = (await ping(url, 'success', wrong, AbortSignal.timeout(5000)))?.reason;
  t.match(refused, /407/);
  t.notMatch(refused, /a-wrong-word|token/);
});

t.test('the paths of Healthchecks', async (t) => {
  const listener = await Listener.start(200);
  t.teardown(async () => listener.stop());
  for (const path of ['/token', '/token/', '/token?rid=1']) {
    const url = new URL(`${listener.origin}${path}`);
    for (const what of ['start', 'success', { failure: 'No space. (exit code 12)' }] as const) {
      t.equal(await ping(url, what, {}, AbortSignal.timeout(5000)), undefined);
    }
  }
  t.strictSame(listener.asked, [
    ...['GET /token/start', 'GET /token', 'POST /token/fail'],
    ...['GET /token/start', 'GET /token/', 'POST /token/fail'],
    ...['GET /token/start?rid=1', 'GET /token?rid=1', 'POST /token/fail?rid=1'],
  ]);
  t.strictSame(listener.bodies, Array(3).fill('No space. (exit code 12)'));
});

t.test('a switch that knows only successes', async (t) => {
  const listener = await Listener.start(404);
  t.teardown(async () => listener.stop());
  const url = new URL(`${listener.origin}/token`);
  t.equal(await ping(url, 'start', {}, AbortSignal.timeout(5000)), undefined);
  t.equal(await ping(url, { failure: 'no' }, {}, AbortSignal.timeout(5000)), undefined);
  t.match(await ping(url, 'success', {}, AbortSignal.timeout(5000)), { status: 404 });
});

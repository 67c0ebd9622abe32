import type { Failure, Sentence } from './failure.ts';

const BROKEN =
  /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_STREAM_PREMATURE_CLOSE|REQUEST_SEND_ERROR)/;
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|^CERT_|ALTNAME/;

/** Whether a code of Node's means a network that may work again in a moment. */
export function isBroken(code: string): boolean {
  return BROKEN.test(code) && !UNTRUSTED.test(code);
}

/** Whether a code of Node's means that nobody answered, neither the host nor the name server. */
export function isUnheard(code: string): boolean {
  return ['ETIMEDOUT', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}

/** What Node says of the network, by its code. */
export function networkFault({ place, code, text, host, doing }: Failure): Sentence | undefined {
  const isStore = host === place.host;
  const who = isStore ? `Azure at ${host}` : `The token endpoint at ${host}`;
  if (UNTRUSTED.test(code)) {
    return [
      // What follows is Node's advice.
      `The TLS certificate of ${host} is not trusted: ${text.split(';')[0]}.`,
      'Set NODE_EXTRA_CA_CERTS to the CA of your endpoint, or of the proxy that opens TLS.',
    ];
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    const where = isStore ? 'SNAPSHOT_AZURE_ACCOUNT_NAME' : 'SNAPSHOT_AZURE_AUTHORITY_HOST';
    return [
      // It may be a proxy's.
      `Host ${/(?:ENOTFOUND|EAI_AGAIN) (\S+)/.exec(text)?.[1] ?? host} cannot be resolved.`,
      `Check ${where}, SNAPSHOT_AZURE_CLOUD, DNS (the private zone) and proxy.`,
    ];
  }
  if (code === 'PARSE_ERROR') {
    return [
      `${who} gave an answer that cannot be understood while ${doing}.`,
      'Check the endpoint, and what a proxy makes of its answers.',
    ];
  }
  if (code === '407') return ['The proxy wants a user name and a password.', 'Put them into the URL of HTTPS_PROXY.'];
  if (code === 'EPROTO') return [`${who} does not speak TLS as it should.`, 'Check protocol and port of the endpoint.'];
  if (code === 'TryTimeout') return [`${who} gave ${text} while ${doing}.`, 'Check the network and proxy.'];
  if (BROKEN.test(code)) {
    return [`${who} cannot be reached while ${doing}: ${text}.`, 'Check the network, proxy and endpoint.'];
  }
  return undefined;
}

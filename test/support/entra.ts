import { constants, createHash, verify, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer as createPlainServer, type IncomingMessage, type Server } from 'node:http';
import { createServer } from 'node:https';
import { text } from 'node:stream/consumers';
import type { Authority } from './certificates.ts';
import { addressOf, close, listen } from './server.ts';

export interface Answer {
  readonly status: number;
  readonly body: object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What Entra ID answers with one of its numbers. */
export function aadsts(status: number, number: number, text: string): Answer {
  const body = { error: 'invalid_request', error_description: `AADSTS${number}: ${text} Trace ID: 1` };
  return { status, body, headers: { 'x-ms-request-id': 'entra-request' } };
}

/** A token endpoint on loopback that knows one application and makes the unsigned look-alike tokens that Azurite takes. */
export class TokenEndpoint {
  readonly tenant = '86be0945-a0f3-44c2-8868-9b6aa96b0b62';
  readonly appId = '1775963c-8414-434d-839c-db5d417c4293';
  readonly password = 'principal~password~that~no~output~may~show';
  /** Of the service account that the application trusts. */
  readonly federatedToken = 'federated~token~that~no~output~may~show';
  /** File with the application's certificate. */
  certificate: string | undefined;
  /** Answered instead, one a request for a token. */
  readonly instead: Answer[] = [];
  /** How many tokens were asked for. */
  asked = 0;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request, response) => {
      void this.#answer(request).then(({ status, body, headers }) =>
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body)),
      );
    });
  }

  static async start(tls: Authority): Promise<TokenEndpoint> {
    const server = createServer({ cert: readFileSync(tls.server.cert), key: readFileSync(tls.server.key) });
    return new TokenEndpoint(await listen(server));
  }

  get url(): string {
    return `https://localhost:${addressOf(this.#server).port}`;
  }

  /** The worker's variables of the known application. */
  get variables(): Record<string, string> {
    return {
      SNAPSHOT_AZURE_PRINCIPAL_APPID: this.appId,
      SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: this.password,
      SNAPSHOT_AZURE_PRINCIPAL_TENANT: this.tenant,
      SNAPSHOT_AZURE_AUTHORITY_HOST: this.url,
    };
  }

  async stop(): Promise<void> {
    await close(this.#server);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const base = `${this.url}/${this.tenant}`;
    if (request.url?.includes('/.well-known/openid-configuration') === true) {
      if (!request.url.startsWith(`/${this.tenant}/`)) return aadsts(400, 90002, "Tenant 'x' not found.");
      const body = {
        issuer: `${base}/v2.0`,
        authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
        token_endpoint: `${base}/oauth2/v2.0/token`,
        jwks_uri: `${base}/discovery/v2.0/keys`,
      };
      return { status: 200, body };
    }
    const form = new URLSearchParams(await text(request));
    this.asked++;
    const instead = this.instead.shift();
    if (instead !== undefined) return instead;
    if (form.get('client_id') !== this.appId) return aadsts(400, 700016, 'Application not found.');
    if (form.get('scope')?.includes('https://storage.azure.com/.default') !== true) return aadsts(400, 70011, 'Scope.');
    return (
      this.#refusal(form) ?? {
        status: 200,
        body: { token_type: 'Bearer', expires_in: 3600, access_token: accessToken() },
      }
    );
  }

  #refusal(form: URLSearchParams): Answer | undefined {
    const assertion = form.get('client_assertion');
    if (assertion === null) {
      const isRight = form.get('client_secret') === this.password;
      return isRight ? undefined : aadsts(401, 7000215, 'Invalid client secret provided.');
    }
    if (assertion === this.federatedToken) return undefined;
    if (!assertion.startsWith('ey')) return aadsts(400, 70021, 'No matching federated identity record found.');
    return this.#isSigned(assertion) ? undefined : aadsts(401, 700027, 'The certificate is not registered.');
  }

  /** Whether an assertion is meant for us, names the application's certificate, and is signed with its key. */
  #isSigned(assertion: string): boolean {
    const [header = '', claims = '', signature = ''] = assertion.split('.');
    const { alg, 'x5t#S256': thumbprint } = parsePart(header);
    const { aud, iss, sub, exp } = parsePart(claims);
    const certificate = new X509Certificate(readFileSync(this.certificate ?? ''));
    const key = { key: certificate.publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    return (
      alg === 'PS256' &&
      thumbprint === createHash('sha256').update(certificate.raw).digest('base64url') &&
      aud === `${this.url}/${this.tenant}/oauth2/v2.0/token` &&
      [iss, sub].every((who) => who === this.appId) &&
      Number(exp) > Date.now() / 1000 &&
      verify('sha256', Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, 'base64url'))
    );
  }
}

/** The endpoint where a machine gets the tokens of its managed identities: a virtual machine's, and an app service's. */
export class IdentityEndpoint {
  readonly clientId = '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55';
  readonly header = 'identity~header~that~no~output~may~show';
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<IdentityEndpoint> {
    const server = createPlainServer();
    const endpoint = new IdentityEndpoint(server);
    server.on('request', (request, response) => {
      const { status, body } = endpoint.#answer(request);
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
    await listen(server);
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${addressOf(this.#server).port}`;
  }

  /** As the environment of an app service tells it. */
  get appService(): Record<string, string> {
    return { IDENTITY_ENDPOINT: `${this.url}/msi/token`, IDENTITY_HEADER: this.header };
  }

  async stop(): Promise<void> {
    await close(this.#server);
  }

  #answer({ url = '/', headers }: IncomingMessage): Answer {
    const { pathname, searchParams } = new URL(url, this.url);
    const isKnown =
      pathname === '/msi/token'
        ? headers['x-identity-header'] === this.header
        : pathname.replace(/\/$/, '') === '/metadata/identity/oauth2/token' && headers['metadata'] === 'true';
    const clientId = searchParams.get('client_id');
    if (!isKnown || searchParams.get('resource') !== 'https://storage.azure.com') return { status: 404, body: {} };
    if (clientId !== null && clientId !== this.clientId) {
      return { status: 400, body: { error: 'invalid_request', error_description: 'Identity not found' } };
    }
    const expiry = String(Math.floor(Date.now() / 1000) + 3600);
    const token = { access_token: accessToken(), token_type: 'Bearer', resource: 'https://storage.azure.com' };
    return { status: 200, body: { ...token, expires_in: '3600', expires_on: expiry } };
  }
}

function accessToken(): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (claims: object): string => Buffer.from(JSON.stringify(claims)).toString('base64url');
  const times = { iat: now - 60, nbf: now - 60, exp: now + 3600 };
  const claims = { aud: 'https://storage.azure.com', iss: 'https://sts.windows.net/a-tenant/', ...times };
  return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.none`;
}

function parsePart(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
}

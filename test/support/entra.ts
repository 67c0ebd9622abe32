import { createServer, type Server } from 'node:https';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Authority } from './certificates.ts';

/** A token endpoint on loopback that knows one application and makes the unsigned look-alike tokens that Azurite takes. */
export class TokenEndpoint {
  readonly tenant = '86be0945-a0f3-44c2-8868-9b6aa96b0b62';
  readonly appId = '1775963c-8414-434d-839c-db5d417c4293';
  readonly password = 'principal~password~that~no~output~may~show';
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(tls: Authority): Promise<TokenEndpoint> {
    const server = createServer({ cert: await readFile(tls.server.cert), key: await readFile(tls.server.key) });
    const endpoint = new TokenEndpoint(server);
    server.on('request', (request, response) => {
      const answer = (status: number, body: object): void => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      };
      const base = `${endpoint.url}/${endpoint.tenant}`;
      if (request.url?.includes('/.well-known/openid-configuration') === true) {
        if (!request.url.startsWith(`/${endpoint.tenant}/`)) {
          answer(400, { error: 'invalid_tenant', error_description: 'AADSTS90002: Tenant not found.' });
          return;
        }
        answer(200, {
          issuer: `${base}/v2.0`,
          authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
          token_endpoint: `${base}/oauth2/v2.0/token`,
          jwks_uri: `${base}/discovery/v2.0/keys`,
        });
        return;
      }
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => (body += text));
      request.on('end', () => {
        const form = new URLSearchParams(body);
        if (form.get('client_id') !== endpoint.appId) {
          answer(400, { error: 'unauthorized_client', error_description: 'AADSTS700016: Application not found.' });
        } else if (form.get('client_secret') !== endpoint.password) {
          answer(401, { error: 'invalid_client', error_description: 'AADSTS7000215: Invalid client secret provided.' });
        } else {
          answer(200, { token_type: 'Bearer', expires_in: 3600, access_token: endpoint.#token() });
        }
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return endpoint;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `https://localhost:${address.port}`;
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
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #token(): string {
    const now = Math.floor(Date.now() / 1000);
    const part = (claims: object): string => Buffer.from(JSON.stringify(claims)).toString('base64url');
    const claims = {
      aud: 'https://storage.azure.com',
      iss: `https://sts.windows.net/${this.tenant}/`,
      iat: now - 60,
      nbf: now - 60,
      exp: now + 3600,
      appid: this.appId,
      oid: this.appId,
      tid: this.tenant,
    };
    return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.none`;
  }
}

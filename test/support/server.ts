import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';

/** Lets a server listen on a free port. */
export async function listen<Kind extends Server>(server: Kind, host = '127.0.0.1'): Promise<Kind> {
  server.listen(0, host);
  await once(server, 'listening');
  return server;
}

export function addressOf(server: Server): AddressInfo {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return address;
}

/** Closes a server and, where it speaks HTTP, its connections. */
export async function close(server: Server & { closeAllConnections?: () => void }): Promise<void> {
  server.closeAllConnections?.();
  server.close();
  await once(server, 'close');
}

/** The URL of a server that takes connections and says nothing, as behind many a firewall. It ends with the test. */
export async function startSilentServer(t: Test): Promise<string> {
  const sockets: Socket[] = [];
  const server = await listen(createServer((socket) => sockets.push(socket.on('error', () => {}))));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await close(server);
  });
  return `http://127.0.0.1:${addressOf(server).port}`;
}

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { findJudge } from './judges.ts';
import { launch, temporaryFolder } from './process.ts';
import { until } from './until.ts';

interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** How a page is shown. */
interface Look {
  readonly width: number;
  readonly height?: number;
  readonly scheme?: 'light' | 'dark';
  readonly media?: 'screen' | 'print';
  readonly script?: boolean;
}

/** A headless Chromium with one page, driven by the DevTools protocol. */
export class Browser {
  /** URLs of all requests, that of the page included. */
  readonly requests: string[] = [];
  /** What the console and the security policy complained about. */
  readonly complaints: string[] = [];
  readonly #process: ChildProcess;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #session: string | undefined;
  #last = 0;
  #loads = 0;

  private constructor(process: ChildProcess, socket: WebSocket) {
    this.#process = process;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(String(data)) as Answer));
  }

  static async start(): Promise<Browser> {
    const process = launch(findJudge('chromium') ?? 'chromium', [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0', '--hide-scrollbars'],
      ...['--no-first-run', '--disable-background-networking', `--user-data-dir=${temporaryFolder('chromium')}`],
      'about:blank',
    ]);
    process.stdout?.resume();
    const url = await new Promise<string>((resolve, reject) => {
      process.once('exit', (code) => reject(new Error(`chromium ended with ${code}`)));
      if (process.stderr === null) return;
      createInterface(process.stderr).on('line', (line) => {
        const [, found] = /DevTools listening on (\S+)/.exec(line) ?? [];
        if (found !== undefined) resolve(found);
      });
    });
    const socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', () => reject(new Error('chromium does not answer')));
    });
    const browser = new Browser(process, socket);
    const { targetId } = await browser.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await browser.send('Target.attachToTarget', { targetId, flatten: true });
    browser.#session = String(sessionId);
    for (const domain of ['Page', 'Network', 'Runtime', 'Log', 'Accessibility']) await browser.send(`${domain}.enable`);
    return browser;
  }

  /** Opens a file, and waits until it is loaded; returns the milliseconds that it took. */
  async open(
    file: string,
    { width, height = 900, scheme = 'light', media = 'screen', script = true }: Look,
  ): Promise<number> {
    await this.send('Emulation.setDeviceMetricsOverride', {
      ...{ width, height, deviceScaleFactor: 1, mobile: false },
    });
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.send('Emulation.setEmulatedMedia', { media, features });
    await this.send('Emulation.setScriptExecutionDisabled', { value: !script });
    this.requests.length = 0;
    this.complaints.length = 0;
    const [before, start] = [this.#loads, performance.now()];
    await this.send('Page.navigate', { url: pathToFileURL(file).href });
    await until(() => this.#loads > before);
    return performance.now() - start;
  }

  /** The value of an expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, returnByValue: true });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  /** Presses keys: names such as `Tab` and `Enter`, or single characters. */
  async press(...keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      const text = key === 'Enter' ? '\r' : key.length === 1 ? key : undefined;
      const code = { Tab: 9, Enter: 13 }[key] ?? key.toUpperCase().codePointAt(0);
      const event = { key, windowsVirtualKeyCode: code, ...(text && { text }) };
      await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
      await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
    }
  }

  /** The whole page as PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', { captureBeyondViewport: true, format: 'png' });
    return Buffer.from(String(data), 'base64');
  }

  async pdf(): Promise<Buffer> {
    const { data } = await this.send('Page.printToPDF', { preferCSSPageSize: true });
    return Buffer.from(String(data), 'base64');
  }

  async send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiting.set(id, resolve);
    this.#socket.send(JSON.stringify({ id, method, params, ...(this.#session && { sessionId: this.#session }) }));
    const { result, error } = await promise;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#socket.close();
    this.#process.kill();
    await ended;
  }

  #receive({ id, method, params = {}, ...answer }: Answer): void {
    if (id !== undefined) this.#waiting.get(id)?.(answer);
    if (method === 'Page.loadEventFired') this.#loads += 1;
    if (method === 'Network.requestWillBeSent') this.requests.push((params['request'] as { url: string }).url);
    if (method === 'Log.entryAdded') this.complaints.push((params['entry'] as { text: string }).text);
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(params));
  }
}

import type { NotificationFormat } from '../config/monitoring.ts';
import { ExitCode } from '../errors.ts';
import { maskedJson } from '../secret.ts';
import { printable } from '../text.ts';
import type { End } from './metrics.ts';

/** What the webhook gets about a run (docs/json.md). */
export interface Notification {
  readonly status: 'failed' | 'incomplete' | 'recovered';
  readonly command: End['command'];
  readonly exitCode: number;
  /** Container and prefix; null where the configuration is invalid. */
  readonly container: string | null;
  /** Null where the run did not get so far. */
  readonly clusterId: string | null;
  readonly message: string;
  readonly hint: string | null;
  readonly at: Date;
  /** Of this program. */
  readonly version: string;
}

/** What there is to say about the end of a run; undefined after a success like the one before. @param container with the prefix */
export function notificationOf(end: End, container: string | undefined): Notification | undefined {
  const { command, exitCode, clusterId = null, message, hint = null, at, version, recovery } = end;
  const isDone = exitCode === ExitCode.done;
  if (isDone && recovery === undefined) return undefined;
  return {
    status: isDone ? 'recovered' : exitCode === ExitCode.incomplete ? 'incomplete' : 'failed',
    ...{ command, exitCode, container: container ?? null, clusterId },
    message: recovery === undefined ? message : `${message.replace(/\.?$/, '.')} ${recovery}`,
    ...{ hint, at, version },
  };
}

/** The body of the request, in JSON. @param mask hides secrets */
export function notificationBody(
  notification: Notification,
  format: NotificationFormat,
  mask: (text: string) => string,
): string {
  if (format === 'json') return maskedJson(notification, mask);
  // Masked before anything is escaped.
  const lines = linesOf(notification).map((line) => printable(mask(line)));
  if (format === 'teams') return JSON.stringify(teamsCard(lines));
  return JSON.stringify({ text: lines.map(slackText).join('\n'), mrkdwn: false });
}

/** For people, the title first. */
function linesOf({ status, command, exitCode, container, clusterId, message, hint }: Notification): string[] {
  const title = `etcd ${command} ${status}: ${container ?? 'unknown container'}`;
  return [
    `${title}${exitCode === ExitCode.done ? '' : ` (exit code ${exitCode})`}`,
    message,
    ...(hint === null ? [] : [hint]),
    ...(clusterId === null ? [] : [`Cluster id: ${clusterId}`]),
  ];
}

/** Slack reads links and mentions between angle brackets (docs.slack.dev: formatting message text). */
function slackText(line: string): string {
  return line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** An adaptive card, as the webhooks of Teams' workflows take it. In a TextRun, unlike in a TextBlock, nothing is Markdown. */
function teamsCard([title = '', ...lines]: readonly string[]): object {
  const body = [paragraph(title, { weight: 'Bolder', size: 'Medium' }), ...lines.map((line) => paragraph(line))];
  const content = {
    ...{ $schema: 'http://adaptivecards.io/schemas/adaptive-card.json', type: 'AdaptiveCard', version: '1.4', body },
    msteams: { width: 'Full' },
  };
  return { type: 'message', attachments: [{ contentType: 'application/vnd.microsoft.card.adaptive', content }] };
}

function paragraph(text: string, style: object = {}): object {
  return { type: 'RichTextBlock', inlines: [{ type: 'TextRun', text, ...style }] };
}

import { launch, type Finished, collect, type Variables } from './process.ts';
import { findJudge } from './judges.ts';

/**
 * Runs a shell command on a terminal of its own, and types each answer when its question appears. What it prints is in `stdout`,
 * with what the terminal shows of the answers.
 */
export async function onTerminal(
  command: string,
  dialog: readonly (readonly [question: string, answer: string])[],
  variables: Variables = {},
): Promise<Finished> {
  const script = ['-qec', command, '/dev/null'];
  const child = launch(findJudge('script') ?? 'script', script, variables, undefined, ['pipe', 'pipe', 'pipe']);
  const ended = collect(child);
  let unread = '';
  let next = 0;
  child.stdout?.on('data', (text: string) => {
    unread += text;
    const [question, answer] = dialog[next] ?? [];
    if (question === undefined || answer === undefined || !unread.includes(question)) return;
    unread = unread.slice(unread.indexOf(question) + question.length);
    next += 1;
    child.stdin?.write(answer);
  });
  const finished = await ended;
  child.stdin?.destroy();
  return finished;
}

import { cleaned } from '../reader.ts';

/** How a program is started. */
export interface CommandLine {
  /** Of the program's command line; what is known only when it starts is left as it is written, as `${NAME}`. */
  readonly words: readonly string[];
  /** They count only where no flag is given. */
  readonly variables: ReadonlyMap<string, string>;
  /** Files with more variables, as a unit names them. */
  readonly environmentFiles?: readonly string[];
}

/** The variables of an environment file. Quoted values may have several lines, and a backslash joins two. */
export function variablesOf(text: string): Map<string, string> {
  const joined = text.replaceAll(/\\\r?\n/g, ' ').replaceAll('\r\n', '\n');
  const lines = joined.matchAll(/^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=("[^"]*"(?=[ \t]*$)|'[^']*'(?=[ \t]*$)|.*$)/gm);
  return new Map([...lines].map(([, name = '', value = '']) => [name, value.replaceAll('\n', ' ')]));
}

/** Words of a line; quotation marks keep spaces together and are no part of a word. */
export function wordsOf(line: string): string[] {
  return [...line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) => word.replaceAll(/["']/g, ''));
}

/** What a systemd unit starts; undefined when it starts nothing. Later settings of a name add to earlier ones, an empty one undoes them. */
export function unitOf(text: string): CommandLine | undefined {
  const variables = new Map<string, string>();
  const environmentFiles: string[] = [];
  let line = '';
  for (const [key, value] of settingsOf(text)) {
    if (key === 'ExecStart') line = value;
    if (key === 'EnvironmentFile' && value !== '') environmentFiles.push(value.replace(/^-/, ''));
    if (key !== 'Environment') continue;
    if (value === '') variables.clear();
    for (const assignment of wordsOf(value)) {
      const [name = ''] = assignment.split('=', 1);
      variables.set(name, percent(cleaned(assignment.slice(name.length + 1)) ?? ''));
    }
  }
  if (line === '') return undefined;
  const words = wordsOf(line.replace(/^[@:+!|-]+/, '')).flatMap((word) => {
    // A variable that is a whole word becomes several.
    const [, whole] = /^\$(\w+)$/.exec(word) ?? [];
    if (whole !== undefined) return variables.has(whole) ? wordsOf(variables.get(whole) ?? '') : [word];
    return [percent(word.replaceAll(/\$\{(\w+)\}/g, (reference, name: string) => variables.get(name) ?? reference))];
  });
  return { words, variables, environmentFiles };
}

/** `%%` is a percent sign; other specifiers, such as `%H`, are known only at run time, as a variable is. */
function percent(word: string): string {
  return word.replaceAll(/%(%|[A-Za-z])/g, (_, letter: string) => (letter === '%' ? '%' : `\${%${letter}}`));
}

/** The settings of the section [Service], in their order. A line that ends with a backslash goes on in the next; comments between are skipped. */
function settingsOf(text: string): [key: string, value: string][] {
  const lines: string[] = [];
  let isContinued = false;
  for (const line of text.split(/\r?\n/).map((raw) => raw.trim())) {
    if (/^[#;]/.test(line)) continue;
    const part = line.replace(/\\$/, '').trim();
    if (isContinued) lines.push(`${lines.pop() ?? ''} ${part}`);
    else lines.push(part);
    isContinued = line.endsWith('\\');
  }
  let section = '';
  const settings: [string, string][] = [];
  for (const line of lines) {
    const [, heading] = /^\[(\w+)\]$/.exec(line) ?? [];
    const [, key, value] = /^(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (heading !== undefined) section = heading;
    else if (section === 'Service' && key !== undefined) settings.push([key, value ?? '']);
  }
  return settings;
}

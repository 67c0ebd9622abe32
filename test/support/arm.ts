import { createHash } from 'node:crypto';

export interface Template {
  readonly parameters: Record<string, { readonly defaultValue?: unknown }>;
  readonly variables: Record<string, unknown> & { readonly copy: readonly Copy[] };
  readonly resources: readonly Resource[];
  readonly outputs: Record<string, { readonly value: unknown }>;
}

interface Copy {
  readonly name: string;
  readonly count: string;
  readonly input?: unknown;
}

export interface Resource {
  readonly type: string;
  readonly apiVersion: string;
  readonly name: string;
  readonly scope?: string;
  readonly dependsOn?: readonly string[];
  readonly properties?: Record<string, unknown>;
}

export interface Deployment {
  readonly resources: readonly Resource[];
  readonly outputs: Record<string, unknown>;
  /** Parameters and variables that an expression asked for. */
  readonly used: ReadonlySet<string>;
}

export const GROUP = '/subscriptions/s/resourceGroups/group';

/**
 * What Azure Resource Manager would make of a template, as far as ours go: a handful of functions, one level of copies, and
 * made-up answers of Azure. What it does not know it refuses, so that nothing is passed over.
 *
 * @throws Error for a parameter, variable or function that is not there, and for an expression that is none
 */
export function deploy(template: Template, values: Record<string, unknown>): Deployment {
  const used = new Set<string>();
  const indices: number[] = [];

  const lookUp = (kind: string, table: Record<string, unknown>, name: unknown): unknown => {
    if (!Object.hasOwn(table, String(name))) throw new Error(`there is no ${kind} ${String(name)}`);
    used.add(`${kind} ${String(name)}`);
    return table[String(name)];
  };
  const id = (types: string, names: string[], scope: string): string => {
    const [provider, ...kinds] = types.split('/');
    if (kinds.length !== names.length) throw new Error(`${types} takes ${kinds.length} names, not ${names.length}`);
    return [scope, 'providers', provider, ...kinds.flatMap((kind, at) => [kind, names[at]])].join('/');
  };

  const functions: Record<string, (...args: never[]) => unknown> = {
    parameters: (name: string) => value(lookUp('parameter', parameters, name)),
    variables: (name: string) => value(lookUp('variable', variables, name)),
    concat: (...parts: string[]) => parts.join(''),
    guid: (...parts: string[]) => createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 32),
    resourceGroup: () => ({ id: GROUP, location: 'westeurope' }),
    resourceId: (types: string, ...names: string[]) => id(types, names, GROUP),
    subscriptionResourceId: (types: string, ...names: string[]) => id(types, names, '/subscriptions/s'),
    reference: (of: string) => ({
      principalId: `principal of ${of}`,
      clientId: `client of ${of}`,
      primaryEndpoints: { blob: `https://${of.split('/').at(-1)}.blob.example/` },
    }),
    if: (condition: boolean, yes: unknown, no: unknown) => (condition ? yes : no),
    not: (condition: boolean) => !condition,
    and: (...conditions: boolean[]) => conditions.every(Boolean),
    empty: (text: string) => text.length === 0,
    length: (list: unknown[]) => list.length,
    union: (...lists: unknown[][]) => [...new Set(lists.flat())],
    null: () => null,
    greater: (one: number, other: number) => one > other,
    copyIndex: () => indices.at(-1),
  };

  function call(name: string, args: unknown[]): unknown {
    const known = functions[name];
    if (known === undefined) throw new Error(`there is no function ${name} here`);
    return known(...(args as never[]));
  }

  function value(of: unknown): unknown {
    if (Array.isArray(of)) return of.map(value);
    if (typeof of === 'object' && of !== null) {
      return Object.fromEntries(Object.entries(of).map(([name, inner]) => [name, value(inner)]));
    }
    return typeof of === 'string' && of.startsWith('[') ? evaluate(of.slice(1, -1), call) : of;
  }

  function copies(copy: Copy, input: unknown): unknown[] {
    return Array.from({ length: Number(value(copy.count)) }, (_, at) => {
      indices.push(at);
      const made = value(input);
      indices.pop();
      return made;
    });
  }

  const defaults = Object.entries(template.parameters).map(([name, { defaultValue }]) => [name, defaultValue] as const);
  const parameters: Record<string, unknown> = { ...Object.fromEntries(defaults), ...values };
  for (const name of Object.keys(values)) lookUp('parameter', template.parameters, name);
  for (const [name, given] of Object.entries(parameters))
    if (given === undefined) throw new Error(`${name} is missing`);
  used.clear();
  const { copy: lists, ...variables } = template.variables;
  for (const list of lists) variables[list.name] = copies(list, list.input);

  const resources = template.resources.flatMap((resource) => {
    const { condition, copy, ...rest } = resource as Resource & {
      condition?: string;
      copy?: Copy;
    };
    if (condition !== undefined && value(condition) !== true) return [];
    return (copy === undefined ? [value(rest)] : copies(copy, rest)) as Resource[];
  });
  const outputs = Object.fromEntries(
    Object.entries(template.outputs).map(([name, output]) => [name, value(output.value)]),
  );
  return { resources, outputs, used };
}

/** The id that Azure gives to a resource. */
export function idOf({ type, name, scope = GROUP }: Resource): string {
  const [provider, ...kinds] = type.split('/');
  const names = name.split('/');
  if (names.length !== kinds.length) throw new Error(`${name} does not name a ${type}`);
  return [scope, 'providers', provider, ...kinds.flatMap((kind, at) => [kind, names[at]])].join('/');
}

/** name(argument, …), 'text', 7, each with .property and [index] behind it. */
function evaluate(expression: string, call: (name: string, args: unknown[]) => unknown): unknown {
  const tokens = expression.match(/'[^']*'|\w+|[^\s\w]/g) ?? [];
  let at = 0;
  const expect = (token: string): void => {
    if (tokens[at++] !== token) throw new Error(`${expression}: ${token} expected, not ${tokens[at - 1] ?? 'the end'}`);
  };
  function term(): unknown {
    let result = operand(tokens[at++] ?? '');
    for (;;) {
      if (tokens[at] === '.') {
        result = member(result, tokens[at + 1]);
        at += 2;
      } else if (tokens[at] === '[') {
        at++;
        result = member(result, String(term()));
        expect(']');
      } else return result;
    }
  }
  function operand(token: string): unknown {
    if (token.startsWith("'")) return token.slice(1, -1);
    if (/^\d+$/.test(token)) return Number(token);
    const args: unknown[] = [];
    expect('(');
    while (tokens[at] !== ')') {
      if (args.length > 0) expect(',');
      args.push(term());
    }
    expect(')');
    return call(token, args);
  }
  function member(of: unknown, name = ''): unknown {
    const inner = (of as Record<string, unknown>)[name];
    if (inner === undefined) throw new Error(`${expression}: there is no ${name}`);
    return inner;
  }
  const result = term();
  if (at !== tokens.length) throw new Error(`${expression}: ${tokens[at]} is too much`);
  return result;
}

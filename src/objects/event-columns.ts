import { ago, type Cells, count, scalar, since, text } from './cells.ts';
import { type JsonObject, textAt, valueAt } from './object-values.ts';

/* What kubectl shows of an Event. */

export const WIDE_EVENT_CELLS: Cells = {
  Subobject: text('involvedObject', 'fieldPath'),
  Source: source,
  'First Seen': firstSeen,
  Count: occurrences,
  Name: text('metadata', 'name'),
};

/** All of them in their order. */
export const EVENT_CELLS: Cells = {
  'Last Seen': lastSeen,
  Type: text('type'),
  Reason: text('reason'),
  Object: involvedObject,
  Subobject: text('involvedObject', 'fieldPath'),
  Source: source,
  Message: (event) => textAt(event, 'message').trim(),
  ...WIDE_EVENT_CELLS,
};

function involvedObject(event: JsonObject): string {
  const [kind, name] = ['kind', 'name'].map((field) => textAt(event, 'involvedObject', field));
  return `${kind?.toLowerCase()}${name === '' ? '' : `/${name}`}`;
}

function firstSeen(event: JsonObject, now: number): string {
  return ago(textAt(event, 'firstTimestamp') || textAt(event, 'eventTime'), now) || '<unknown>';
}

function lastSeen(event: JsonObject, now: number): string {
  if (valueAt(event, 'series') !== undefined) return since('series', 'lastObservedTime')(event, now);
  return ago(textAt(event, 'lastTimestamp'), now) || firstSeen(event, now);
}

function occurrences(event: JsonObject): string {
  if (valueAt(event, 'series') !== undefined) return count(event, 'series', 'count');
  return scalar(valueAt(event, 'count') || 1);
}

function source(event: JsonObject): string {
  const component = textAt(event, 'source', 'component') || textAt(event, 'reportingComponent');
  const host = textAt(event, 'source', 'host') || textAt(event, 'reportingInstance');
  return host === '' ? component : `${component}, ${host}`;
}

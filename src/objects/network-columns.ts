import { type Cells, count, firstThree, labels, or, orNone, scalar, selector, text } from './cells.ts';
import { isObject, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** What kubectl shows of Services and what belongs to them, between the name and the age, by kind and group. */
export const NETWORK_COLUMNS: Readonly<Record<string, { readonly shown: Cells; readonly wide?: Cells }>> = {
  'Service ': {
    shown: {
      Type: text('spec', 'type'),
      'Cluster-IP': orNone(clusterIP),
      'External-IP': externalIP,
      'Port(s)': orNone(ports),
    },
    wide: { Selector: labels('spec', 'selector') },
  },
  'Ingress networking.k8s.io': {
    shown: {
      Class: orNone(text('spec', 'ingressClassName')),
      Hosts: hosts,
      Address: loadBalancer,
      Ports: (ingress) => (listAt(ingress, 'spec', 'tls').length > 0 ? '80, 443' : '80'),
    },
  },
  'IngressClass networking.k8s.io': {
    shown: { Controller: text('spec', 'controller'), Parameters: orNone(parameters) },
  },
  'NetworkPolicy networking.k8s.io': { shown: { 'Pod-Selector': selector(['spec', 'podSelector']) } },
  'Endpoints ': { shown: { Endpoints: endpoints } },
  'EndpointSlice discovery.k8s.io': {
    shown: {
      AddressType: text('addressType'),
      Ports: or('<unset>', slicePorts),
      Endpoints: or('<unset>', (slice) =>
        firstThree(listAt(slice, 'endpoints').flatMap((each) => listAt(each, 'addresses').map(scalar))),
      ),
    },
  },
};

function clusterIP(service: JsonObject): string {
  const [first] = listAt(service, 'spec', 'clusterIPs');
  return typeof first === 'string' ? first : textAt(service, 'spec', 'clusterIP');
}

function externalIP(service: JsonObject): string {
  const own = listAt(service, 'spec', 'externalIPs').map(scalar);
  switch (textAt(service, 'spec', 'type')) {
    case 'ClusterIP':
    case 'NodePort':
      return own.join(',') || '<none>';
    case 'LoadBalancer':
      return [loadBalancer(service), ...own].filter((each) => each !== '').join(',') || '<pending>';
    case 'ExternalName':
      return textAt(service, 'spec', 'externalName');
    default:
      return '<unknown>';
  }
}

/** Addresses of the load balancer of a Service or an Ingress. */
function loadBalancer(object: JsonObject): string {
  const found = listAt(object, 'status', 'loadBalancer', 'ingress').map(
    (each) => textAt(each, 'ip') || textAt(each, 'hostname'),
  );
  return [...new Set(found.filter((each) => each !== ''))].toSorted().join(',');
}

function ports(service: JsonObject): string {
  const shown = listAt(service, 'spec', 'ports').map((port) => {
    const [number, node] = [count(port, 'port'), count(port, 'nodePort')];
    return `${number}${Number(node) > 0 ? `:${node}` : ''}/${textAt(port, 'protocol')}`;
  });
  return shown.join(',');
}

/** The API server counts rules without a host with the others. */
function hosts(ingress: JsonObject): string {
  const all = listAt(ingress, 'spec', 'rules').map((rule) => textAt(rule, 'host'));
  const named = all.filter((host) => host !== '');
  const hasMore = named.length > 3 || (named.length === 3 && all.at(-1) === '');
  return named.length === 0 ? '*' : firstThree(named, hasMore ? all.length : named.length);
}

function parameters(ingressClass: JsonObject): string {
  const found = valueAt(ingressClass, 'spec', 'parameters');
  if (!isObject(found)) return '';
  const group = textAt(found, 'apiGroup');
  return `${textAt(found, 'kind')}${group === '' ? '' : `.${group}`}/${textAt(found, 'name')}`;
}

function endpoints(object: JsonObject): string {
  const subsets = listAt(object, 'subsets');
  if (subsets.length === 0) return '<none>';
  return firstThree(
    subsets.flatMap((subset) => {
      const addresses = listAt(subset, 'addresses').map((each) => textAt(each, 'ip'));
      const numbers = listAt(subset, 'ports').map((port) => count(port, 'port'));
      return numbers.length === 0
        ? addresses
        : numbers.flatMap((number) => addresses.map((ip) => `${ip.includes(':') ? `[${ip}]` : ip}:${number}`));
    }),
  );
}

function slicePorts(slice: JsonObject): string {
  const all = listAt(slice, 'ports');
  return firstThree(all.map((port) => scalar(valueAt(port, 'port') ?? valueAt(port, 'name') ?? '*')));
}

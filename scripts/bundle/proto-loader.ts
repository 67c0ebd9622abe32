// Replaces @grpc/proto-loader in the bundle. With that loader, etcd3 parses the definition of etcd's services at every start and
// prepares an unused reflection: together they take longer than everything else before the first call.
import Long from 'long';
import protobuf, { type IConversionOptions, type Method, type Service, type Type } from 'protobufjs/light.js';

/** etcd3's rpc.proto as protobufjs' JSON, put here by the build. */
declare const ETCD_SERVICES: protobuf.INamespace;

// Ids of clusters and members have 64 bits.
protobuf.util.Long = Long;
protobuf.configure();

/** The services that the build has parsed, in the form that grpc-js takes. The file name is ignored. */
export function loadSync(_file: string, options: IConversionOptions): Record<string, unknown> {
  const root = protobuf.Root.fromJSON(ETCD_SERVICES).resolveAll();
  const found = Object.entries(root.nested ?? {}).flatMap(([packageName, namespace]) =>
    Object.values((namespace as protobuf.Namespace).nested ?? {})
      .filter((item): item is Service => item instanceof protobuf.Service)
      .map((service) => [`${packageName}.${service.name}`, methodsOf(service, packageName, options)]),
  );
  return Object.fromEntries(found) as Record<string, unknown>;
}

function methodsOf(service: Service, packageName: string, options: IConversionOptions): Record<string, unknown> {
  return Object.fromEntries(
    service.methodsArray.map((method) => [
      method.name,
      definitionOf(method, `${packageName}.${service.name}`, options),
    ]),
  );
}

/** The client's half of a method: the other two functions are for servers. */
function definitionOf(method: Method, serviceName: string, options: IConversionOptions): object {
  const { name, requestStream = false, responseStream = false, resolvedRequestType, resolvedResponseType } = method;
  const [request, response] = [resolvedRequestType as Type, resolvedResponseType as Type];
  return {
    path: `/${serviceName}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: (message: object) => request.encode(request.fromObject(message)).finish(),
    responseDeserialize: (bytes: Buffer) => response.toObject(response.decode(bytes), options),
    originalName: `${name[0]?.toLowerCase()}${name.slice(1)}`,
  };
}

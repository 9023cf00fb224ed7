// Node's stock gRPC client of com.example.HelloWorld: grpc_client.js ADDRESS PROTO NAME. Writes one line of JSON.

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, proto, name] = process.argv.slice(2);
const { com } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, defaults: true }));
const client = new com.example.HelloWorld(address, grpc.credentials.createInsecure());
const said = {};
const call = client.SayHello({ name }, { deadline: Date.now() + 60000 }, (error, reply) => {
  said.code = error ? error.code : 0;
  said.details = error ? error.details : "";
  said.talk_to_me = reply ? reply.talk_to_me : null;
  console.log(JSON.stringify(said));
  client.close();
});
call.on("metadata", (metadata) => {
  said.version = metadata.get("tutti-version")[0] || null;
});

// One window through the shipped anomaly model, with Node's own modules and nothing else.
//
//     node examples/infer.mjs /run/edge-agent/agent.sock

import http from "node:http";

const agent = new http.Agent({ keepAlive: true }); // a connection serves any number of requests

function infer(socketPath, window) {
  const tensor = { name: "window", datatype: "INT8", shape: [1, 3, 32], data: window };
  const body = JSON.stringify({ inputs: [tensor] });
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  const asked = { socketPath, path: "/v2/models/pump-anomaly/infer", method: "POST", headers, agent };
  return new Promise((resolve, reject) => {
    const request = http.request(asked, async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      const answer = JSON.parse(text);
      if (response.statusCode === 200) resolve(answer.outputs[0].data);
      else reject(new Error(`${answer.code}: ${answer.error}`));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const evidence = await infer(process.argv[2], Array.from({ length: 96 }, (_, i) => i));
console.log("evidence", ...evidence);
agent.destroy();

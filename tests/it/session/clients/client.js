// A backend in Node.js: one command, one chunk.

const net = require("node:net");

function connect() {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(process.argv[3]), process.argv[2]);
    socket.setTimeout(5000, () => reject(new Error("no reply")));
    socket.once("error", reject);
    socket.once("connect", () => resolve(socket));
  });
}

function ask(socket, command) {
  return new Promise((resolve) => {
    socket.once("data", (chunk) => {
      const reply = chunk.toString().trim();
      console.log(reply.startsWith("ACK") ? "ACK" : reply);
      resolve(reply);
    });
    socket.write(`${command}\n`);
  });
}

async function main() {
  let socket = await connect();
  let sid = (await ask(socket, "REGISTER|api-service|api-v2|9000|9001")).split("|")[1];
  for (const command of [
    `ROUTE|${sid}|api.example.com|/v2|http://api-v2:9000`,
    `ROUTE|${sid}|a.example.com,*.b.example.com|/|http://api-v2:9000`,
    `HEADER|${sid}|X-API-Version|2.0`,
    `OPTIONS|${sid}|timeout|60s`,
    `VALIDATE|${sid}`,
    `MAINT_ENTER|${sid}`,
    `MAINT_EXIT|${sid}`,
    "PING",
  ]) {
    await ask(socket, command);
  }
  socket.destroy();

  socket = await connect();
  await ask(socket, `RECONNECT|${sid}`);
  await ask(socket, `ROUTE|${sid}|api.example.com|/v3|http://api-v2:9000`);
  socket.destroy();

  socket = await connect();
  await ask(socket, "RECONNECT|forgotten");
  sid = (await ask(socket, "REGISTER|web|web-1|8080|0")).split("|")[1];
  await ask(socket, `ROUTE|${sid}|web.example.com|/|http://web-1:8080`);
  const end = new Promise((resolve) => socket.once("end", resolve));
  await ask(socket, `SHUTDOWN|${sid}`);
  await end;
  console.log("the end");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

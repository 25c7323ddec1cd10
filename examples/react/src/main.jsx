// A question and its answer, as it streams from a coordinator to the page.
//
//   farmesh coordinator --model models/demo --public-budget 100 --allowed-origins http://localhost:5173 &
//   npm install && npm install ../../build/packages/farlabs-sdk-*.tgz && npm run dev
import { FarMesh } from "@farlabs/sdk";
import { useRef, useState } from "react";
import { createRoot } from "react-dom/client";

const baseUrl = new URLSearchParams(location.search).get("mesh") ?? "http://localhost:8100";
const mesh = new FarMesh({ baseUrl });

function Ask() {
  const [question, setQuestion] = useState("Tell me a story.");
  const [answer, setAnswer] = useState("");
  const [note, setNote] = useState("");
  const running = useRef(null);

  async function ask(event) {
    event.preventDefault();
    setAnswer("");
    setNote("…");
    const stream = (running.current = await mesh.chat(question, { maxTokens: 200 }));
    try {
      for await (const token of stream) setAnswer((text) => text + token);
      const { tokens, finishReason } = stream.usage;
      setNote(`${finishReason}: ${tokens} tokens, ${stream.costFar ?? "?"} $FAR`);
    } catch (error) {
      setNote(`${error.code}: ${error.message}`);
    }
    running.current = null;
  }

  return (
    <form onSubmit={ask}>
      <input value={question} onChange={(event) => setQuestion(event.target.value)} />
      <button type="submit">Ask</button>
      <button type="button" onClick={() => running.current?.close()}>Stop</button>
      <p id="answer">{answer}</p>
      <p id="note">{note}</p>
    </form>
  );
}

createRoot(document.getElementById("root")).render(<Ask />);

#!/usr/bin/env python3
"""Writes goldens.json: what Jinja2 itself renders for every template here and conversation.

Needs jinja2. The environment is the one in which Hugging Face renders chat templates.
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return env


def render(template, messages, generate):
    try:
        return {"text": template.render(messages=messages, add_generation_prompt=generate,
                                        tools=None, documents=None, bos_token="<s>",
                                        eos_token="</s>")}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}


def main():
    env = environment()
    conversations = json.loads((HERE / "conversations.json").read_text())
    goldens = {}
    for path in sorted(HERE.glob("*.jinja")):
        template = env.from_string(path.read_text())
        goldens[path.stem] = {
            name: [render(template, messages, generate) for generate in (False, True)]
            for name, messages in conversations.items()}
    (HERE / "goldens.json").write_text(json.dumps(goldens, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

// What a template is refused for, how its rendering is bounded, and where it is found.
#include "text/chat_template.hpp"

#include <ctime>

#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

using farmesh::test::TempDir;

Result<std::string> render(std::string_view source, const std::vector<ChatMessage>& messages = {},
                           bool generate = false) {
  const auto chat = ChatTemplate::parse(source, {.bos = "<s>"});
  if (!chat) return chat.error();
  return chat->render(messages, generate);
}

std::string text_of(std::string_view source, const std::vector<ChatMessage>& messages = {}) {
  const Result<std::string> text = render(source, messages);
  REQUIRE_MESSAGE(text, text.error().to_string());
  return *text;
}

std::string refusal_of(std::string_view source) {
  const auto chat = ChatTemplate::parse(source);
  REQUIRE_FALSE(chat);
  CHECK(chat.error().code == Errc::template_unsupported);
  return chat.error().detail;
}

std::string failure_of(std::string_view source) {
  const Result<std::string> text = render(source);
  REQUIRE_FALSE(text);
  CHECK(text.error().code == Errc::invalid_argument);
  return text.error().detail;
}

std::string repeated(std::string_view part, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += part;
  return out;
}

TEST_SUITE("text/chat_template") {
  TEST_CASE("an unknown construct is refused when the template is parsed, by name and line") {
    CHECK(refusal_of("a\n{% include 'x' %}") == "chat template, line 2: the statement include");
    CHECK(refusal_of("{{ x | wordwrap }}") == "chat template, line 1: the filter wordwrap");
    CHECK(refusal_of("\n\n{{ x is sameas(y) }}") == "chat template, line 3: the test sameas");
    CHECK(refusal_of("{{ x.append(1) }}") == "chat template, line 1: the method append");
    CHECK(refusal_of("{{ cycler(1) }}") == "chat template, line 1: the function cycler");
    CHECK(refusal_of("{{ x | map('nonsense') }}") == "chat template, line 1: the filter nonsense");
    CHECK(refusal_of("{{ x | trim(width=3) }}") ==
          "chat template, line 1: the argument width of trim");
    for (const std::string source :
         {"{% extends 'x' %}", "{% block a %}{% endblock %}",
          "{% for a in b recursive %}{% endfor %}", "{% macro a() %}{{ caller() }}{% endmacro %}",
          "{{ 2 ** 3 }}", "{{ '%s' % x }}", "{{ f(*x) }}", "{{ x.items }}", "{{ loop.cycle('a') }}",
          "{{ loop.changed }}", "{% for a in b %}{% macro c() %}{% endmacro %}{% endfor %}",
          "{{ x | map(attribute=y) }}", "{% break %}", "{% set a.b.c = 1 %}", "{% do x %}",
          "{{ \"\\N{DASH}\" }}"}) {
      CAPTURE(source);
      refusal_of(source);
    }
  }

  TEST_CASE("broken syntax is refused, wherever the source ends") {
    const std::string good =
        "{%- macro m(a, b=[1, {'k': 2}]) %}{{ a[1:] ~ 'x' }}{% endmacro %}{# note #}"
        "{% for k, v in {'a': (1, 2)}.items() if k is not none %}{{ m(k | trim, b=v) }}"
        "{% raw %}{{{% endraw %}{% else %}{% set ns = namespace(a=1) %}{% endfor %}";
    REQUIRE(ChatTemplate::parse(good));
    std::size_t accepted = 0;
    for (std::size_t size = 0; size < good.size(); ++size) {
      accepted += ChatTemplate::parse(good.substr(0, size)).has_value();
    }
    CHECK(accepted < 40);  // after the macro, the comment, and before what comes next
    for (const std::string source :
         {"{{ }}", "{{ a b }}", "{% if %}", "{% endif %}", "{{ (1 }}", "{{ 'x }}", "{{ a..b }}",
          "{{ 1x }}", "{{ a[1:2:3:4] }}", "{{ ] }}", "{% %}", "{{ a ? b }}", "{{ f(a=1, 2) }}",
          "{% for in x %}{% endfor %}", "{{ not }}", "{# open"}) {
      CAPTURE(source);
      refusal_of(source);
    }
  }

  TEST_CASE("nesting without end is refused") {
    refusal_of("{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}");
    refusal_of("{{ " + repeated("not ", 5000) + "1 }}");
    refusal_of("{{ " + repeated("-", 5000) + "1 }}");
    refusal_of("{{ 1" + repeated(" + 1", 5000) + " }}");
    refusal_of("{{ a" + repeated(".b", 5000) + " }}");
    refusal_of("{{ a" + repeated(" | trim", 5000) + " }}");
    refusal_of("{{ " + repeated("1 if 1 else ", 5000) + "1 }}");
    refusal_of(repeated("{% if a %}", 5000) + repeated("{% endif %}", 5000));
    refusal_of(std::string(kMaxTemplateBytes + 1, 'a'));
    refusal_of("\xFF");
  }

  TEST_CASE("a template that never ends, or writes without end, is stopped") {
    failure_of("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}");
    failure_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    failure_of("{{ 'x' * 100000000 }}");
    failure_of("{% for a in range(20) %}{{ 'x' * 1000000 }}{% endfor %}");
    failure_of(
        "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}"
        "{% endfor %}");
    failure_of(
        "{% set n = namespace(l=[1]) %}{% for a in range(99) %}{% set n.l = [n.l, n.l] %}"
        "{% endfor %}");
    failure_of(
        "{% set n = namespace(l=[1]) %}{% for a in range(9999) %}{% set n.l = [n.l] %}"
        "{% endfor %}");
    failure_of("{{ range(10000000) }}");
    failure_of("{{ 'ab' | replace('', 'x' * 1000000) | replace('x', 'y' * 1000) }}");
  }

  TEST_CASE("what Jinja2 fails on fails here, and tells the line") {
    CHECK(failure_of("\n{{ raise_exception('no ' + bos_token) }}") ==
          "chat template, line 2: no <s>");
    CHECK(failure_of("{{ a.b.c }}") == "chat template, line 1: \"b\" of an undefined value");
    CHECK(failure_of("{{ 'a' + 1 }}") == "chat template, line 1: str + int");
    CHECK(failure_of("{{ none + 'a' }}") == "chat template, line 1: none + str");
    for (const std::string source : {"{{ 1 // 0 }}",
                                     "{{ 1 % 0 }}",
                                     "{{ 1 / 0 }}",
                                     "{{ 'a' < 1 }}",
                                     "{% for a in none %}{% endfor %}",
                                     "{% for a, b in [1] %}{% endfor %}",
                                     "{{ 5 | length }}",
                                     "{{ 1 in 2 }}",
                                     "{{ x.strip() }}",
                                     "{{ 9223372036854775807 + 1 }}",
                                     "{{ -9223372036854775807 - 2 }}",
                                     "{{ messages[::0] }}",
                                     "{% set bos_token.a = 1 %}",
                                     "{{ [namespace()] }}",
                                     "{{ {1: 2} }}",
                                     "{{ 1 | tojson(indent=99) }}",
                                     "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
                                     "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
                                     "{{ 'a'.split('') }}",
                                     "{{ range(1, 2, 0) }}",
                                     "{{ messages[0]['role'] }}"}) {
      CAPTURE(source);
      failure_of(source);
    }
  }

  TEST_CASE("Python's values look as Python shows them") {
    CHECK(text_of("{{ [1, 2.0, 1e20, -0.5, 1e-7, true, none, 'a\\'b', \"é\\t\"] }}") ==
          R"([1, 2.0, 1e+20, -0.5, 1e-07, True, None, "a'b", 'é\t'])");
    CHECK(text_of("{{ (1,) }}{{ () }}{{ {} }}{{ {'a': [{}]} }}") == "(1,)(){}{'a': [{}]}");
    CHECK(text_of("{{ missing }}|{{ missing is undefined }}|{{ missing | default('x') }}") ==
          "|True|x");
    CHECK(text_of("{{ 'héllo'[1] }}{{ 'héllo'[-1] }}{{ 'héllo'[1:3] }}{{ 'héllo'[::-1] }}"
                  "{{ 'héllo' | length }}{{ 'abc'[9] is defined }}") == "éoélolléh5False");
    CHECK(
        text_of("{{ 7 // -2 }} {{ -7 % 5 }} {{ 7 % -5 }} {{ 3 / 2 }} {{ 2.5 // 1 }} {{ 1 == 1.0 }} "
                "{{ true + 1 }}") == "-4 3 -3 1.5 2.0 True 2");
    CHECK(text_of("{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 'x' not in ['y'] }} "
                  "{{ not 1 == 2 }}") == "True False True True True");
  }

  TEST_CASE("strings are split, stripped and replaced as Python does it") {
    CHECK(text_of("{{ '  a b  c '.split() }}{{ 'a,b,,c'.split(',') }}{{ 'a,b,c'.split(',', 1) }}"
                  "{{ 'a b  c '.split(none, 1) }}{{ 'a,b,c'.rsplit(',', 1) }}") ==
          "['a', 'b', 'c']['a', 'b', '', 'c']['a', 'b,c']['a', 'b  c ']['a,b', 'c']");
    CHECK(text_of("{{ 'xxaxx'.strip('x') }}{{ 'é\\u3000'.strip() }}{{ 'abc'.replace('', '-') }}"
                  "{{ 'aaa'.replace('a', 'b', 2) }}{{ 'a\\nb\\r\\nc'.splitlines() }}") ==
          "aé-a-b-c-bba['a', 'b', 'c']");
    CHECK(text_of("{{ 'ab'.startswith(('x', 'a')) }}{{ 'ab'.endswith('b') }}{{ 'aXb'.find('X') }}"
                  "{{ 'abab'.count('ab') }}{{ ' '.join(['a', 'b']) }}{{ 'ßé'.upper() }}"
                  "{{ 'file.txt'.removesuffix('.txt') }}") == "TrueTrue12a bSSÉfile");
  }

  TEST_CASE("tojson writes what json.dumps writes") {
    CHECK(text_of(R"({{ {'b': [], 'a': "é\"\\\n\x01</x>", 'c': {}} | tojson }})") ==
          R"({"b": [], "a": "é\"\\\n\u0001</x>", "c": {}})");
    CHECK(text_of("{{ {'b': [1, {}], 'a': 'é'} | tojson(indent=2, sort_keys=true, "
                  "ensure_ascii=true) }}") ==
          "{\n  \"a\": \"\\u00e9\",\n  \"b\": [\n    1,\n    {}\n  ]\n}");
    CHECK(text_of("{{ [1, 'a'] | tojson(separators=(',', ':')) }}") == "[1,\"a\"]");
  }

  TEST_CASE("variables set in a loop end with its pass, a namespace's do not") {
    CHECK(text_of("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 9 %}{{ x }}{% endfor %}"
                  "{{ x }}") == "19191");
    CHECK(text_of("{% set n = namespace(x=0) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}"
                  "{% endfor %}{{ n.x }}") == "3");
    CHECK(text_of("{% if true %}{% set y = 5 %}{% endif %}{{ y }}") == "5");
    CHECK(text_of("{% set z = 3 %}{% macro m(a, b=a + 1) %}{{ a }}{{ b }}{{ z }}{% endmacro %}"
                  "{% for z in [7] %}{{ m(1) }}{% endfor %}") == "123");
  }

  TEST_CASE("what the assistant says may be marked for training") {
    CHECK(text_of("{% generation %}said{% endgeneration %}.") == "said.");
  }

  TEST_CASE("strftime_now tells today") {
    const std::time_t now = std::time(nullptr);
    char year[8];
    std::strftime(year, sizeof year, "%Y", std::localtime(&now));
    CHECK(text_of("{{ strftime_now('%Y') }}") == year);
    CHECK(text_of("{{ strftime_now('') }}") == "");
    failure_of("{{ strftime_now('%A' * 9999) }}");
  }

  TEST_CASE("messages are repaired, and too long ones refused") {
    CHECK(text_of("{{ messages[0].content }}", {{"user", "a\xFF"}}) == "a\uFFFD");
    const auto refused =
        render("{{ messages | length }}", {{"user", std::string(kMaxRenderedBytes + 1, 'a')}});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
    const std::string long_text(10u << 20, 'a');
    CHECK(text_of("{{ messages[0]['content'] | trim + '.' }}", {{"user", long_text}}).size() ==
          long_text.size() + 1);
  }

  TEST_CASE("a folder's template is chat_template.jinja, or tokenizer_config.json's default") {
    const TempDir folder;
    CHECK(ChatTemplate::load(folder.path()).error().code == Errc::model_not_found);
    folder.write("tokenizer_config.json", R"({"bos_token":"<b>"})");
    CHECK(ChatTemplate::load(folder.path()).error().code == Errc::model_not_found);
    const auto shown = [&] {
      const auto chat = ChatTemplate::load(folder.path());
      REQUIRE_MESSAGE(chat, chat.error().to_string());
      return *chat->render({}, true);
    };
    folder.write("tokenizer_config.json",
                 R"({"bos_token":{"content":"<b>"},"eos_token":"<e>",
                     "chat_template":"{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}"})");
    CHECK(shown() == "<b><e>True");
    folder.write("tokenizer_config.json",
                 R"({"chat_template":[{"name":"tool_use","template":"no"},
                                      {"name":"default","template":"yes{{ tools }}"}]})");
    CHECK(shown() == "yesNone");
    folder.write("chat_template.jinja", "file");
    CHECK(shown() == "file");
    folder.write("chat_template.jinja", std::string(kMaxTemplateBytes + 1, ' '));
    CHECK(ChatTemplate::load(folder.path()).error().code == Errc::template_unsupported);
    folder.write("tokenizer_config.json", "[");
    CHECK(ChatTemplate::load(folder.path()).error().code == Errc::tokenizer_malformed);
  }
}

}  // namespace
}  // namespace farmesh::text

// The public Session over real threads and no weights, so that every sanitizer can watch it.
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "unit/node/stand_in_model.hpp"

namespace farmesh {
namespace {

using test::StandInModel;

Session open(const std::shared_ptr<StandInModel>& model, const SessionOptions& options = {}) {
  const std::shared_ptr<const client::SharedModel> shared(model, &model->shared());
  Result<Session> session = client::make_session(shared, options);
  REQUIRE(session);
  return *std::move(session);
}

GenerateOptions greedy(std::uint32_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0;
  return options;
}

std::string read_all(TokenStream stream) {
  std::string text;
  for (const Token& token : stream) text += token.text;
  const std::optional<Error> error = stream.error();
  INFO((error ? error->to_string() : ""));
  CHECK_FALSE(error);
  return text;
}

std::vector<TokenId> prompt_ids(const std::string& text) {
  text::EncodeOptions options;
  options.add_special = true;
  return *test::ByteTokenizer().encode(text, options);
}

}  // namespace

TEST_SUITE("node/session") {
  TEST_CASE("a session's tokens are those of one engine alone") {
    const auto model = std::make_shared<StandInModel>();
    Session session = open(model);
    const std::string text = read_all(session.generate("hello", greedy(60)));
    CHECK(session.ids() == test::reference(prompt_ids("hello"), 60));
    CHECK(text.size() == 60);
  }

  TEST_CASE("a draft model guesses over several turns, cancelled ones too, and changes no token") {
    const auto model = std::make_shared<StandInModel>();
    model->guess_by_itself();
    Session session = open(model);
    GenerateOptions guessing = greedy(60);
    guessing.max_draft = 8;
    read_all(session.generate("hello", guessing));
    CHECK(session.ids() == test::reference(prompt_ids("hello"), 60));
    CHECK(model->sessions() == 2);
    {
      TokenStream stream = session.generate(" there", guessing);
      for (int i = 0; i < 5; ++i) CHECK(*stream.next());
    }  // cancelled here
    const std::vector<TokenId> before = session.ids();
    guessing.max_tokens = 20;
    TokenStream rest = session.generate_ids({}, guessing);
    while (*rest.next()) {
    }
    CHECK(session.ids() == test::reference(before, 20));
  }

  TEST_CASE("eight sessions in eight threads do not disturb each other") {
    const auto model = std::make_shared<StandInModel>();
    std::vector<std::future<std::vector<TokenId>>> turns;
    for (int i = 0; i < 8; ++i) {
      turns.push_back(std::async(std::launch::async, [&model, i] {
        Session session = open(model, {.buffer_tokens = 1u + unsigned(i)});
        read_all(session.generate("session " + std::to_string(i), greedy(40)));
        read_all(session.generate(" goes on", greedy(40)));
        return session.ids();
      }));
    }
    for (int i = 0; i < 8; ++i) {
      std::vector<TokenId> expected =
          test::reference(prompt_ids("session " + std::to_string(i)), 40);
      for (const char c : std::string(" goes on")) expected.push_back(TokenId(c - 29));
      CHECK(turns[std::size_t(i)].get() == test::reference(std::move(expected), 40));
    }
  }

  TEST_CASE("a reader that stops reading stops the turn, and nothing else") {
    const auto model = std::make_shared<StandInModel>();
    Session slow = open(model, {.buffer_tokens = 4});
    TokenStream waiting = slow.generate("slow", greedy(200));
    REQUIRE(*waiting.next());
    Session quick = open(model);
    read_all(quick.generate("quick", greedy(100)));
    // One step a token and one for each prompt: of the slow session no more than fit its buffer.
    CHECK(model->steps() <= 101 + 1 + 6);
    CHECK(read_all(std::move(waiting)).size() == 199);
    CHECK(slow.ids() == test::reference(prompt_ids("slow"), 200));
  }

  TEST_CASE("cancel from another thread wakes the reader and frees the peer's pages") {
    const auto model = std::make_shared<StandInModel>();
    Session session = open(model, {.buffer_tokens = 2});
    TokenStream stream = session.generate("hello", greedy(400));
    REQUIRE(*stream.next());
    std::thread canceller([&stream] { stream.cancel(); });
    while (*stream.next()) {
    }
    canceller.join();
    CHECK(stream.usage().finish == FinishReason::cancelled);
    read_all(session.generate("again", greedy(3)));  // waits until the cancelled turn has ended
    CHECK(model->sessions() == 1);
  }

  TEST_CASE("a turn that is resumed anywhere goes on with the same tokens, text and end") {
    const auto model = std::make_shared<StandInModel>();
    GenerateOptions options = greedy(40);
    options.sampling.temperature = 1;
    options.sampling.seed = 11;
    options.sampling.presence_penalty = 0.5f;
    Session whole = open(model);
    TokenStream first = whole.generate("hello", options);
    std::vector<Token> tokens;
    for (const Token& token : first) tokens.push_back(token);
    const Usage usage = first.usage();
    for (std::size_t known = 0; known <= tokens.size(); ++known) {
      GenerateOptions again = options;
      for (std::size_t i = 0; i < known; ++i) again.resume.push_back(tokens[i].id);
      Session session = open(model);
      TokenStream stream = session.generate("hello", again);
      std::size_t told = 0;
      for (const Token& token : stream) {
        REQUIRE(told < tokens.size());
        CHECK(token.id == tokens[told].id);
        CHECK(token.text == tokens[told].text);
        if (told >= known) CHECK(token.logprob == tokens[told].logprob);
        ++told;
      }
      CHECK(told == tokens.size());
      CHECK(stream.usage().finish == usage.finish);
      CHECK(stream.usage().prompt_tokens == usage.prompt_tokens);
      CHECK(stream.usage().tokens == tokens.size() - known);  // what was made here
      CHECK(session.ids() == whole.ids());
    }
    GenerateOptions impossible = options;
    impossible.resume = {1u << 30};
    CHECK(open(model).generate("hello", impossible).next().error().code == Errc::invalid_argument);
  }

  TEST_CASE("a resumed turn ends where its stop string ended it") {
    const auto model = std::make_shared<StandInModel>();
    Session plain = open(model);
    const std::string text = read_all(plain.generate("hello", greedy(60)));
    GenerateOptions options = greedy(60);
    options.stop = {text.substr(20, 3)};
    Session stopped = open(model);
    const std::string before = read_all(stopped.generate("hello", options));
    const std::vector<TokenId> ids = stopped.ids();
    options.resume.assign(ids.begin() + std::ptrdiff_t(prompt_ids("hello").size()), ids.end());
    Session session = open(model);
    TokenStream stream = session.generate("hello", options);
    std::string again;
    for (const Token& token : stream) again += token.text;
    CHECK(again == before);
    CHECK(stream.usage().finish == FinishReason::stop);
    CHECK(stream.usage().tokens == 0);
  }

  TEST_CASE("a stop string ends the text before it, and the next turn goes on from the ids") {
    const auto model = std::make_shared<StandInModel>();
    Session plain = open(model);
    const std::string text = read_all(plain.generate("hello", greedy(60)));
    GenerateOptions options = greedy(60);
    options.stop = {text.substr(20, 3)};
    Session stopped = open(model);
    TokenStream stream = stopped.generate("hello", options);
    std::string shown;
    for (const Token& token : stream) shown += token.text;
    CHECK(shown == text.substr(0, text.find(options.stop[0])));
    CHECK(stream.usage().finish == FinishReason::stop);
    const std::vector<TokenId> held = stopped.ids();
    std::vector<TokenId> expected = held;
    expected.push_back(TokenId('x' - 29));
    read_all(stopped.generate("x", greedy(5)));
    CHECK(stopped.ids() == test::reference(std::move(expected), 5));
  }

  TEST_CASE("the end token ends a turn; told to ignore it, the turn goes on") {
    const auto model = std::make_shared<StandInModel>();
    GenerateOptions options = greedy(10);
    options.sampling.logit_bias = {{test::kEos, 100}};
    Session session = open(model);
    TokenStream stream = session.generate("hello", options);
    const Result<std::optional<Token>> token = stream.next();
    REQUIRE(*token);
    CHECK((*token)->id == test::kEos);
    CHECK((*token)->text.empty());
    CHECK_FALSE(*stream.next());
    CHECK(stream.usage().finish == FinishReason::stop);

    options.ignore_eos = true;
    Session unending = open(model);
    TokenStream all = unending.generate("hello", options);
    for (const Token& next : all) CHECK(next.id == test::kEos);
    CHECK(all.usage().tokens == 10);
    CHECK(all.usage().finish == FinishReason::length);
  }

  TEST_CASE("prompts over the context are refused, and leave the session as it was") {
    const auto model = std::make_shared<StandInModel>();
    Session session = open(model, {.context_tokens = 16});
    CHECK(session.generate(std::string(16, 'a'), greedy(1)).next().error().code ==
          Errc::context_exceeded);
    CHECK(session.ids().empty());
    CHECK(read_all(session.generate("hello", greedy(100))).size() == 10);
    CHECK(session.ids().size() == 16);
  }

  TEST_CASE("sessions and streams dropped in any order end cleanly") {
    auto model = std::make_shared<StandInModel>();
    std::optional<TokenStream> stream;
    {
      Session session = open(model, {.buffer_tokens = 1});
      stream = session.generate("hello", greedy(400));
      REQUIRE(*stream->next());
    }
    Session other = open(model);
    model.reset();  // its sessions hold it now
    REQUIRE(*stream->next());
    stream.reset();
    CHECK(read_all(other.generate("hello", greedy(5))).size() == 5);
  }

  TEST_CASE("a session without a chat template says so") {
    const auto model = std::make_shared<StandInModel>();
    CHECK(open(model).chat({{"user", "hello"}}).next().error().code == Errc::model_not_found);
  }
}

}  // namespace farmesh

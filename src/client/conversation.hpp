// One session's life on the network thread: runs its turns, turns ids into text, stops.
//
// Takes prompts from session.cpp, gives tokens to a TokenQueue.
// Threading: the network thread during a turn. Between turns the caller's thread reads ids() and
// transcript(); the queue's end hands them over.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/session.hpp>

#include "client/shared_model.hpp"
#include "client/stop_filter.hpp"
#include "client/token_queue.hpp"
#include "client/turn_runner.hpp"
#include "net/task.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::client {

/// A chat as text: what the template wrote, and the model's words after it.
struct Transcript {
  std::string prompt;
  std::string reply;
};

struct TurnRequest {
  std::vector<TokenId> ids;  // appended to the session's
  bool restart = false;      // they are the whole session: what came before is forgotten
  std::optional<Transcript> transcript;  // of a chat, the reply still empty
  GenerateOptions options;
};

class Conversation : public std::enable_shared_from_this<Conversation> {
 public:
  /// `model` outlives every turn.
  Conversation(const SharedModel& model, const SessionOptions& options);

  // --- on the network thread
  void start(TurnRequest request, std::shared_ptr<TokenQueue> queue);
  /// The reader of the turn in progress made room.
  void resume();
  /// Ends the turn that feeds `queue`, if it still runs.
  void cancel(const std::shared_ptr<TokenQueue>& queue);
  /// Ends whatever runs and frees the cache on every peer. Nothing can be started afterwards.
  void close();

  // --- between turns, on the caller's thread
  const std::vector<TokenId>& ids() const noexcept { return ids_; }
  /// Nothing unless the last turn was a chat's, and its text and ids agree.
  const std::optional<Transcript>& transcript() const noexcept { return transcript_; }
  std::uint32_t context_tokens() const noexcept { return context_tokens_; }

 private:
  // What is known of one turn.
  struct TurnState {
    std::shared_ptr<TokenQueue> queue;
    std::vector<TokenId> stop_tokens;
    std::uint32_t limit = 0;  // tokens at which the turn ends by length
    text::Detokenizer detokenizer;
    StopFilter stops;
    bool stopped_by_text = false;
    bool ended_before = false;       // what is resumed was the whole turn
    std::uint32_t prompt_begin = 0;  // positions of the prompt's tokens in the session
    std::uint32_t prompt_end = 0;
    bool prompt_told = false;
  };

  net::Task<void> run(std::shared_ptr<Conversation> self, TurnRequest request);
  void tell_again(const std::vector<TokenId>& resume);
  bool accept(const wire::TokenMessage& message);
  std::string text_of(TokenId id, bool is_stop_token, bool is_last);
  void tell_prompt();
  void end(Result<wire::Finish> finish, std::size_t ids_before, std::uint32_t recoveries);
  std::unique_ptr<TurnRunner> make_runner();

  const SharedModel& model_;
  const std::uint32_t context_tokens_;
  const RouteWishes wishes_;
  std::unique_ptr<TurnRunner> runner_;
  std::vector<TokenId> ids_;
  std::optional<Transcript> transcript_;
  std::optional<TurnState> turn_;
  bool closed_ = false;
};

}  // namespace farmesh::client

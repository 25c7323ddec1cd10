// Places for turns, given out fairly: a bounded number run, the others wait by account.
//
// A freed place goes to the highest tier that waits, and among its accounts to the one that had
// its turn longest ago, so that one account with a hundred requests delays nobody else's first.
// Thread-safe; acquire() blocks.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "gateway/problem.hpp"

namespace farmesh::gateway {

struct FairQueueOptions {
  std::size_t places = 128;  // turns that run at once
  std::size_t waiting = 128;
  std::size_t per_account = 64;  // of one account, running and waiting
};

class FairQueue {
 public:
  explicit FairQueue(FairQueueOptions options = {}) : options_(options) {}

  /// Gives its place back when it goes.
  class Place {
   public:
    Place() = default;
    Place(FairQueue* queue, std::string account) : queue_(queue), account_(std::move(account)) {}
    Place(Place&& other) noexcept
        : queue_(std::exchange(other.queue_, nullptr)), account_(std::move(other.account_)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(queue_, other.queue_);
      std::swap(account_, other.account_);
      return *this;
    }
    ~Place() {
      if (queue_ != nullptr) queue_->release(account_);
    }

   private:
    FairQueue* queue_ = nullptr;
    std::string account_;
  };

  /// One wait, which another thread can call off.
  struct Ticket {
    bool called_off = false;  // the queue's lock guards it
  };
  void call_off(Ticket& ticket);

  /// Waits for a place. Fails with 429 (the account has too many), 503 (the queue is full), 499
  /// (called off). A higher `priority` goes first.
  Checked<Place> acquire(const std::string& account, int priority, Ticket& ticket);

  std::size_t running() const;
  std::size_t waiting() const;

 private:
  struct Waiter {
    bool admitted = false;
  };
  struct Line {
    std::string account;
    std::deque<Waiter*> waiters;
  };
  void release(const std::string& account);
  void leave(const std::string& account);
  void admit_next();
  void forget(int priority, Waiter* waiter);

  const FairQueueOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, std::list<Line>, std::greater<>> lines_;  // by priority; the next account first
  std::map<std::string, std::size_t> accounts_;           // running and waiting
  std::size_t running_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace farmesh::gateway

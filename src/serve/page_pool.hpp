// KV pages by number: who holds which, whose prefix a page ends, which may be taken.
//
// Bookkeeping only: the engine owns the memory, scheduler.hpp says who needs what.
//
// Admission. A session promises the positions it may come to hold, and is admitted while
//     pages held + fresh pages that admitted sessions may still need <= pages in all,
// a page shared by name being held once. So grow() cannot fail: an admitted session never runs
// out of pages in mid-answer. The one later refusal is truncate() into a page that another
// session shares, which then needs a page it was not charged for.
// Eviction. A page without a name is free once nobody holds it. A page with one stays as cached
// prefix, and is taken when a fresh page is needed and none is free: the least recently held
// first, and the end of a prefix before its beginning.
// Pages change hands in grow() only. Called between forward passes, it never gives away a page
// that a pass still writes, whatever was released meanwhile.
//
// Threading: confined to its owner's thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::serve {

/// Separates the names of drivers, and of sub-spans of the engine's layers.
struct PageScope {
  std::array<std::uint8_t, 16> bytes{};
  friend constexpr auto operator<=>(const PageScope&, const PageScope&) = default;
};

struct PageCopy {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
};

/// The pages of one session, in order of position. Changed by the pool alone; must be given
/// back with PagePool::close().
class PageTable {
 public:
  /// pages()[i] holds positions [i * page_tokens, (i + 1) * page_tokens).
  std::span<const std::uint32_t> pages() const noexcept { return pages_; }
  /// Fresh pages it was promised and has not taken.
  std::uint32_t owed() const noexcept {
    return promised_ - static_cast<std::uint32_t>(pages_.size()) + (last_is_shared_ ? 1 : 0);
  }

 private:
  friend class PagePool;
  std::vector<std::uint32_t> pages_;
  std::vector<PageName> names_;  // by page, as far as the driver told
  PageScope scope_;
  std::uint32_t promised_ = 0;    // pages
  std::uint32_t own_from_ = 0;    // pages before this one were computed for another scope
  std::uint32_t next_named_ = 0;  // pages before this one have the name they can have
  bool last_is_shared_ = false;   // cut inside a page of others: copied before it is written
};

class PagePool {
 public:
  PagePool(std::uint32_t pages, std::uint32_t page_tokens);

  /// Admits a session, with the longest run of `names` that is held or cached as its first
  /// pages. `table` must be new. Fails with no_cache_space, changing nothing.
  Result<void> open(PageTable& table, const PageScope& scope, std::span<const PageName> names,
                    std::uint32_t max_positions);
  /// Gives every page back.
  void close(PageTable& table);

  /// Raises the promise; lower ones are ignored. Fails with no_cache_space, changing nothing.
  Result<void> promise(PageTable& table, std::uint32_t max_positions);
  /// Tells the names of more pages. In another scope than before, pages already taken stay
  /// without one: their rows came from another driver.
  void learn(PageTable& table, const PageScope& scope, std::span<const PageName> names);
  /// Forgets what was told of pages that are not full of the first `positions`: other tokens may
  /// follow there.
  void unlearn(PageTable& table, std::uint32_t positions);
  /// Positions before `positions` are computed: full pages among them take their names.
  void complete(PageTable& table, std::uint32_t positions);

  /// Makes positions [from, to), inside the promise, writable for this session alone. Appends
  /// the copies that the engine has to make before anything is written. Call between passes.
  void grow(PageTable& table, std::uint32_t from, std::uint32_t to, std::vector<PageCopy>& copies);

  /// Forgets all but the first `positions`, which must be computed, as unlearn() does.
  /// Fails with no_cache_space, changing nothing.
  Result<void> truncate(PageTable& table, std::uint32_t positions);

  std::uint32_t pages() const noexcept { return static_cast<std::uint32_t>(pages_.size()); }
  std::uint32_t page_tokens() const noexcept { return page_tokens_; }
  std::uint32_t used() const noexcept { return used_; }      // held by sessions
  std::uint32_t cached() const noexcept { return cached_; }  // named, held by nobody
  std::uint32_t free() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t promisable() const noexcept { return pages() - used_ - owed_; }

 private:
  struct Key {
    PageScope scope;
    PageName name;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct HashOfKey {
    std::size_t operator()(const Key& key) const noexcept {
      return HashOfBytes{}(key.scope) ^ HashOfBytes {}(key.name);
    }
  };
  struct Page {
    std::uint32_t holders = 0;
    std::optional<Key> key;
    std::uint32_t older = 0;  // neighbours while cached
    std::uint32_t newer = 0;
  };
  static constexpr std::uint32_t kNone = ~0u;

  std::uint32_t pages_for(std::uint32_t positions) const noexcept {
    return (positions + page_tokens_ - 1) / page_tokens_;
  }
  Result<void> check_promisable(std::uint64_t more) const;
  std::uint32_t take_fresh();
  void hold(std::uint32_t page);
  void drop(std::uint32_t page);
  void forget_name(std::uint32_t page);
  void link_newest(std::uint32_t page);
  void unlink(std::uint32_t page);

  std::uint32_t page_tokens_;
  std::vector<Page> pages_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<Key, std::uint32_t, HashOfKey> by_name_;
  std::uint32_t oldest_ = kNone;  // of the cached pages
  std::uint32_t newest_ = kNone;
  std::uint32_t cached_ = 0;
  std::uint32_t used_ = 0;
  std::uint32_t owed_ = 0;  // to all tables; used_ + owed_ is at most pages()
};

}  // namespace farmesh::serve

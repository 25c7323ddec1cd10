#include "serve/page_pool.hpp"

#include <algorithm>
#include <string>

#include "base/assert.hpp"

namespace farmesh::serve {

PagePool::PagePool(std::uint32_t pages, std::uint32_t page_tokens)
    : page_tokens_(page_tokens), pages_(pages) {
  FARMESH_ASSERT(page_tokens > 0);
  free_.reserve(pages);
  for (std::uint32_t page = pages; page > 0; --page) free_.push_back(page - 1);
}

Result<void> PagePool::open(PageTable& table, const PageScope& scope,
                            std::span<const PageName> names, std::uint32_t max_positions) {
  FARMESH_ASSERT(table.pages_.empty() && table.promised_ == 0);
  const std::size_t most = std::min<std::size_t>(names.size(), max_positions / page_tokens_);
  std::vector<std::uint32_t> found;
  std::uint32_t woken = 0;  // cached until now
  while (found.size() < most) {
    const auto entry = by_name_.find(Key{scope, names[found.size()]});
    if (entry == by_name_.end()) break;
    found.push_back(entry->second);
    if (pages_[entry->second].holders == 0) ++woken;
  }

  const std::uint32_t promised = pages_for(max_positions);
  const auto fits = check_promisable(std::uint64_t{promised} - found.size() + woken);
  if (!fits) return fits;
  for (const std::uint32_t page : found) hold(page);
  table.pages_ = std::move(found);
  table.names_.assign(names.begin(), names.end());
  table.scope_ = scope;
  table.promised_ = promised;
  table.next_named_ = static_cast<std::uint32_t>(table.pages_.size());
  owed_ += table.owed();
  return {};
}

void PagePool::close(PageTable& table) {
  owed_ -= table.owed();
  // Last page first, so that the end of a cached prefix is older than its beginning.
  while (!table.pages_.empty()) {
    drop(table.pages_.back());
    table.pages_.pop_back();
  }
  table = PageTable{};
}

Result<void> PagePool::promise(PageTable& table, std::uint32_t max_positions) {
  const std::uint32_t promised = pages_for(max_positions);
  if (promised <= table.promised_) return {};
  const std::uint32_t more = promised - table.promised_;
  const auto fits = check_promisable(more);
  if (!fits) return fits;
  table.promised_ = promised;
  owed_ += more;
  return {};
}

void PagePool::learn(PageTable& table, const PageScope& scope, std::span<const PageName> names) {
  if (scope != table.scope_) table.own_from_ = static_cast<std::uint32_t>(table.pages_.size());
  table.next_named_ = table.own_from_;
  table.scope_ = scope;
  table.names_.assign(names.begin(), names.end());
}

void PagePool::unlearn(PageTable& table, std::uint32_t positions) {
  const std::uint32_t full = positions / page_tokens_;
  table.names_.resize(std::min<std::size_t>(table.names_.size(), full));
  table.next_named_ = std::max(table.own_from_, std::min(table.next_named_, full));
}

void PagePool::complete(PageTable& table, std::uint32_t positions) {
  const std::size_t full =
      std::min<std::size_t>({table.names_.size(), table.pages_.size(), positions / page_tokens_});
  for (; table.next_named_ < full; ++table.next_named_) {
    const std::uint32_t page = table.pages_[table.next_named_];
    if (pages_[page].key) continue;
    const Key key{table.scope_, table.names_[table.next_named_]};
    // Another session was first: its page is the cached one, this stays private.
    if (by_name_.emplace(key, page).second) pages_[page].key = key;
  }
}

void PagePool::grow(PageTable& table, std::uint32_t from, std::uint32_t to,
                    std::vector<PageCopy>& copies) {
  FARMESH_ASSERT(pages_for(to) <= table.promised_ && pages_for(from) <= table.pages_.size());
  owed_ -= table.owed();
  if (table.last_is_shared_) {
    table.last_is_shared_ = false;
    std::uint32_t& last = table.pages_.back();
    if (pages_[last].holders == 1) {  // the others have gone meanwhile
      forget_name(last);
    } else {
      const std::uint32_t own = take_fresh();
      copies.push_back({last, own});
      drop(last);
      last = own;
    }
  }
  while (table.pages_.size() < pages_for(to)) table.pages_.push_back(take_fresh());
  owed_ += table.owed();
}

Result<void> PagePool::truncate(PageTable& table, std::uint32_t positions) {
  const std::uint32_t kept = pages_for(positions);
  FARMESH_ASSERT(kept <= table.pages_.size());
  const bool cut_inside = positions % page_tokens_ != 0;
  const bool shares_last = cut_inside && pages_[table.pages_[kept - 1]].holders > 1;

  // What others hold stays used: this session is owed other pages in its place.
  std::uint32_t replaced = shares_last ? 1 : 0;
  for (std::size_t i = kept; i < table.pages_.size(); ++i) {
    if (pages_[table.pages_[i]].holders > 1) ++replaced;
  }
  const std::uint32_t charged = table.last_is_shared_ ? 1 : 0;
  const auto fits = check_promisable(replaced > charged ? replaced - charged : 0);
  if (!fits) return fits;

  owed_ -= table.owed();
  while (table.pages_.size() > kept) {
    drop(table.pages_.back());
    table.pages_.pop_back();
  }
  table.last_is_shared_ = shares_last;
  owed_ += table.owed();
  if (cut_inside && !shares_last) forget_name(table.pages_.back());
  table.own_from_ = std::min(table.own_from_, kept);
  unlearn(table, positions);
  return {};
}

Result<void> PagePool::check_promisable(std::uint64_t more) const {
  if (more <= promisable()) return {};
  return {Errc::no_cache_space, "needs " + std::to_string(more) + " pages, " +
                                    std::to_string(promisable()) + " are not promised"};
}

/// A nameless page, held once, that a table was owed.
std::uint32_t PagePool::take_fresh() {
  if (free_.empty()) {
    FARMESH_ASSERT(oldest_ != kNone);  // or admission is wrong
    const std::uint32_t evicted = oldest_;
    unlink(evicted);
    forget_name(evicted);
    free_.push_back(evicted);
  }
  const std::uint32_t page = free_.back();
  free_.pop_back();
  pages_[page].holders = 1;
  ++used_;
  return page;
}

void PagePool::hold(std::uint32_t page) {
  if (pages_[page].holders++ > 0) return;
  unlink(page);
  ++used_;
}

void PagePool::drop(std::uint32_t page) {
  FARMESH_ASSERT(pages_[page].holders > 0);
  if (--pages_[page].holders > 0) return;
  --used_;
  if (pages_[page].key) {
    link_newest(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::forget_name(std::uint32_t page) {
  if (!pages_[page].key) return;
  by_name_.erase(*pages_[page].key);
  pages_[page].key.reset();
}

void PagePool::link_newest(std::uint32_t page) {
  pages_[page].older = newest_;
  pages_[page].newer = kNone;
  (newest_ == kNone ? oldest_ : pages_[newest_].newer) = page;
  newest_ = page;
  ++cached_;
}

void PagePool::unlink(std::uint32_t page) {
  const Page& entry = pages_[page];
  (entry.older == kNone ? oldest_ : pages_[entry.older].newer) = entry.newer;
  (entry.newer == kNone ? newest_ : pages_[entry.newer].older) = entry.older;
  --cached_;
}

}  // namespace farmesh::serve

#include "ledger/database.hpp"

#include <charconv>
#include <limits>

#include "base/digest.hpp"

namespace farmesh::ledger {
namespace {

template <class Number>
bool parse_number(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

template <class Number>
bool read_integer(const Field& field, Number& out) {
  if (field.kind == Field::Kind::text) return parse_number(field.bytes, out);
  if (field.kind != Field::Kind::integer || !std::in_range<Number>(field.integer)) return false;
  out = static_cast<Number>(field.integer);
  return true;
}

void put_digits(char* out, int width, std::int64_t value) {
  for (int i = width - 1; i >= 0; --i, value /= 10) out[i] = static_cast<char>('0' + value % 10);
}

}  // namespace

bool read(const Field& field, bool& out) {
  if (field.kind == Field::Kind::text) {
    out = field.bytes == "t";
    return out || field.bytes == "f";
  }
  out = field.integer != 0;
  return field.kind == Field::Kind::integer;
}

bool read(const Field& field, std::int64_t& out) { return read_integer(field, out); }
bool read(const Field& field, std::int32_t& out) { return read_integer(field, out); }
bool read(const Field& field, std::uint32_t& out) { return read_integer(field, out); }
bool read(const Field& field, std::uint64_t& out) { return read_integer(field, out); }

bool read(const Field& field, double& out) {
  if (field.kind == Field::Kind::text) return parse_number(field.bytes, out);
  out = field.kind == Field::Kind::real ? field.real : static_cast<double>(field.integer);
  return field.kind == Field::Kind::real || field.kind == Field::Kind::integer;
}

bool read(const Field& field, std::string& out) {
  if (field.kind == Field::Kind::null) return out.clear(), true;
  out = field.bytes;
  return field.kind == Field::Kind::text;
}

bool read(const Field& field, Far& out) {
  if (field.kind == Field::Kind::integer) return out = Far::from_units(field.integer), true;
  if (field.kind != Field::Kind::text) return false;
  const std::optional<Far> amount = Far::parse(field.bytes);
  if (amount) out = *amount;
  return amount.has_value();
}

bool read(const Field& field, LedgerTime& out) {
  if (field.kind != Field::Kind::text) return false;
  const std::optional<LedgerTime> time = parse_time(field.bytes);
  if (time) out = *time;
  return time.has_value();
}

bool read(const Field& field, std::vector<std::uint8_t>& out) {
  if (field.kind == Field::Kind::blob) {
    out.assign(field.bytes.begin(), field.bytes.end());
    return true;
  }
  if (field.kind != Field::Kind::text || !field.bytes.starts_with("\\x")) return false;
  out.resize((field.bytes.size() - 2) / 2);
  return from_hex(field.bytes.substr(2), out);
}

// "[0,1,2]" of SQLite, "{0,1,2}" of PostgreSQL.
bool read(const Field& field, std::vector<std::uint32_t>& out) {
  out.clear();
  std::string_view text = field.bytes;
  if (field.kind != Field::Kind::text || text.size() < 2) return false;
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const std::string_view number = text.substr(0, text.find(','));
    if (!parse_number(number, out.emplace_back())) return false;
    text.remove_prefix(std::min(text.size(), number.size() + 1));
  }
  return true;
}

std::string in_dialect(std::string_view sql, Dialect dialect) {
  std::string out;
  out.reserve(sql.size() + 64);
  while (!sql.empty()) {
    const std::size_t special = std::min(sql.find_first_of("?{"), sql.size());
    out += sql.substr(0, special);
    sql.remove_prefix(special);
    if (sql.empty()) break;
    if (sql.front() == '?') {
      out += dialect == Dialect::postgres ? '$' : '?';
      sql.remove_prefix(1);
      continue;
    }
    const std::size_t end = sql.find('}');
    const std::string_view word = sql.substr(1, end - 1);
    if (word == "for update") {
      out += dialect == Dialect::postgres ? "FOR UPDATE" : "";
    } else {
      out += word;
      if (dialect == Dialect::sqlite) out += "_units";
    }
    sql.remove_prefix(end + 1);
  }
  return out;
}

std::string to_text(LedgerTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::int64_t ms = (time - day).count();
  std::string text = "0000-00-00T00:00:00.000Z";
  put_digits(text.data(), 4, static_cast<int>(date.year()));
  put_digits(text.data() + 5, 2, static_cast<unsigned>(date.month()));
  put_digits(text.data() + 8, 2, static_cast<unsigned>(date.day()));
  put_digits(text.data() + 11, 2, ms / 3'600'000);
  put_digits(text.data() + 14, 2, ms / 60'000 % 60);
  put_digits(text.data() + 17, 2, ms / 1'000 % 60);
  put_digits(text.data() + 20, 3, ms % 1'000);
  return text;
}

std::optional<LedgerTime> parse_time(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd";
  if (text.size() < kShape.size()) return std::nullopt;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool fits = kShape[i] == 'd'   ? is_digit(text[i])
                      : kShape[i] == 'T' ? text[i] == 'T' || text[i] == ' '
                                         : text[i] == kShape[i];
    if (!fits) return std::nullopt;
  }
  const auto number = [text](std::size_t at, std::size_t width) {
    int value = 0;
    for (std::size_t i = at; i < at + width; ++i) value = value * 10 + (text[i] - '0');
    return value;
  };
  const std::chrono::year_month_day date{std::chrono::year(number(0, 4)),
                                         std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                         std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  if (!date.ok() || number(11, 2) > 23 || number(14, 2) > 59 || number(17, 2) > 59) {
    return std::nullopt;
  }
  std::chrono::milliseconds fraction{0};
  std::size_t at = kShape.size();
  if (at < text.size() && text[at] == '.') {
    int scale = 100;
    for (++at; at < text.size() && is_digit(text[at]); ++at, scale /= 10) {
      fraction += std::chrono::milliseconds((text[at] - '0') * scale);
    }
  }
  const std::string_view zone = text.substr(at);
  if (zone != "Z" && zone != "+00" && !zone.empty()) return std::nullopt;
  return LedgerTime(std::chrono::sys_days(date)) + std::chrono::hours(number(11, 2)) +
         std::chrono::minutes(number(14, 2)) + std::chrono::seconds(number(17, 2)) + fraction;
}

}  // namespace farmesh::ledger

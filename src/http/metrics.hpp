// Counters, gauges and histograms, and their text for Prometheus.
//
// The handles are two pointers, cheap to copy and valid as long as the Metrics they came from.
// Everything is thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace farmesh::http {

class Counter {
 public:
  void add(double amount = 1);  // amount >= 0

 private:
  friend class Metrics;
  explicit Counter(void* counter) : counter_(counter) {}
  void* counter_;
};

class Gauge {
 public:
  void set(double value);
  void add(double amount);

 private:
  friend class Metrics;
  explicit Gauge(void* gauge) : gauge_(gauge) {}
  void* gauge_;
};

class Histogram {
 public:
  void observe(double value);

 private:
  friend class Metrics;
  explicit Histogram(void* histogram) : histogram_(histogram) {}
  void* histogram_;
};

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  Metrics();
  ~Metrics();

  /// The same name and labels give the same counter. Names and label names are the programmer's: a
  /// bad one, or one name for two kinds, is an assertion. Label values may be anything, but each
  /// new one is kept for ever: never a stranger's text.
  Counter counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  /// `bounds` rise; all histograms of a name have those it was first given.
  Histogram histogram(const std::string& name, const std::string& help,
                      const std::vector<double>& bounds, const Labels& labels = {});

  /// Text exposition format 0.0.4.
  std::string text() const;
  static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::http

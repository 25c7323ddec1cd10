// Flags that may also come from the environment or from a file: a flag wins over the environment,
// the environment over --config FILE (TOML).
#pragma once

#include <map>
#include <string>
#include <vector>

#include <CLI/App.hpp>

namespace farmesh::cli {

class Settings {
 public:
  /// `verb` gets --config. Call fill() first in the verb's callback.
  explicit Settings(CLI::App& verb);

  /// The environment's names for an option of the verb, the first one set wins.
  void from_environment(CLI::Option* option, std::vector<std::string> names);

  /// Gives each option that no flag set its value from the environment or the file; in the file an
  /// option is named as its flag, without dashes in front. Throws CLI::ParseError, as parsing does.
  void fill();

 private:
  CLI::App& verb_;
  std::string file_;
  std::map<CLI::Option*, std::vector<std::string>> names_;
};

}  // namespace farmesh::cli

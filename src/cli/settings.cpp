#include "cli/settings.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include <CLI/Config.hpp>
#include <CLI/Error.hpp>

namespace farmesh::cli {
namespace {

void set(CLI::Option& option, const std::vector<std::string>& values) {
  for (const std::string& value : values) option.add_result(value);
  option.run_callback();
}

}  // namespace

Settings::Settings(CLI::App& verb) : verb_(verb) {
  verb.add_option("--config", file_, "TOML file with flags: name = value")->option_text("FILE");
}

void Settings::from_environment(CLI::Option* option, std::vector<std::string> names) {
  names_[option] = std::move(names);
}

void Settings::fill() {
  for (const auto& [option, names] : names_) {
    if (option->count() > 0) continue;
    for (const std::string& name : names) {
      const char* value = std::getenv(name.c_str());
      if (value == nullptr || *value == '\0') continue;
      set(*option, {value});
      break;
    }
  }
  if (file_.empty()) return;
  if (!std::filesystem::is_regular_file(file_)) throw CLI::FileError::Missing(file_);
  for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_file(file_)) {
    if (item.name == "++" || item.name == "--") continue;  // where a table begins and ends
    CLI::Option* option =
        item.parents.empty() ? verb_.get_option_no_throw("--" + item.name) : nullptr;
    if (option == nullptr || item.name == "config") {
      throw CLI::ConfigError("unknown setting '" + item.fullname() + "' in " + file_);
    }
    if (option->count() == 0) set(*option, item.inputs);
  }
}

}  // namespace farmesh::cli

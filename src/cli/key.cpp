// farmesh key: the keys and tokens that say who a node is and where it may join.
//
// Each verb under `key` is one add_… function, called by add_key().
#include <chrono>
#include <memory>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "base/secret_file.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/key_bind.hpp"
#include "cli/key_create.hpp"
#include "cli/verbs.hpp"
#include "identity/join_token.hpp"
#include "identity/node_key.hpp"
#include "node/own_identity.hpp"

namespace farmesh::cli {
namespace {

struct ShowFlags {
  std::string data_dir = node::data_folder().string();
  std::string key;
};

int show(const ShowFlags& flags) {
  const std::filesystem::path file = flags.key.empty()
                                         ? std::filesystem::path(flags.data_dir) / "node.key"
                                         : std::filesystem::path(flags.key);
  const Result<identity::NodeKey> key = identity::NodeKey::load_or_create(file);
  if (!key) return report(key.error());
  fmt::print("node   {}\nshort  {}\nfile   {}\n", to_string(key->id()), short_name(key->id()),
             file.string());
  return kSuccess;
}

struct InviteFlags {
  std::string mesh_key;
  std::string mesh_name = node::kDefaultMeshName;
  std::string out;
  int days = 7;
};

int invite(const InviteFlags& flags) {
  const Result<identity::NodeKey> mesh = identity::NodeKey::load_or_create(flags.mesh_key);
  if (!mesh) return report(mesh.error());
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const Result<identity::JoinToken> token =
      identity::JoinToken::make(*mesh, flags.mesh_name, now + std::chrono::days(flags.days));
  if (!token) return report(token.error());
  const Result<bool> written = create_secret_file(flags.out, token->to_text() + "\n");
  if (!written) return report(written.error());
  if (!*written) return report({Errc::config_invalid, flags.out + " exists already"});
  fmt::print(stderr, "farmesh: {} lets a node into mesh \"{}\" for {} days\n", flags.out,
             flags.mesh_name, flags.days);
  return kSuccess;
}

void add_show(CLI::App& key, Run& run) {
  const auto flags = std::make_shared<ShowFlags>();
  CLI::App* verb = key.add_subcommand("show", "A node's id, as others see it");
  verb->add_option("--data-dir", flags->data_dir,
                   "Folder that keeps the key; default $XDG_DATA_HOME/farmesh")
      ->option_text("DIR");
  verb->add_option("--key", flags->key, "This key file instead; made if missing")
      ->option_text("FILE");
  verb->callback([flags, &run] { run = [flags] { return show(*flags); }; });
}

void add_invite(CLI::App& key, Run& run) {
  const auto flags = std::make_shared<InviteFlags>();
  CLI::App* verb = key.add_subcommand("invite", "Make a token that lets nodes into a private mesh");
  verb->add_option("--mesh-key", flags->mesh_key, "The mesh's own key; a new file founds a mesh")
      ->required()
      ->option_text("FILE");
  verb->add_option("--out", flags->out, "File to make, for its owner's eyes only")
      ->required()
      ->option_text("FILE");
  add_option_with_default(*verb, "--mesh-name", flags->mesh_name, "What people call the mesh",
                          "NAME");
  add_option_with_default(*verb, "--days", flags->days, "How long the token is valid", "N")
      ->check(CLI::Range(1, 36'500));
  verb->callback([flags, &run] { run = [flags] { return invite(*flags); }; });
}

}  // namespace

void add_key(CLI::App& program, Run& run) {
  CLI::App* key =
      program.add_subcommand("key", "Node keys, their wallets, tokens of private meshes, API keys");
  key->require_subcommand(1);
  add_show(*key, run);
  add_invite(*key, run);
  add_key_bind(*key, run);
  add_key_create(*key, run);
  key->footer(R"(
Examples:
  farmesh key show
  farmesh key bind --wallet 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  farmesh key create --url ledger.sqlite --scope admin --name operator
  farmesh key invite --mesh-key ~/mesh.key --mesh-name lab --out lab.token
  farmesh node --model models/demo --layers 0:3 --join-token-file lab.token)");
}

}  // namespace farmesh::cli
